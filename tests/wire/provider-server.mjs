// SPDX-License-Identifier: Apache-2.0
// provider-server.mjs - speaks three protocols of model providers, well and badly, for tests.
//
// The model that is asked for says how: the behaviours below are the same for all protocols, those of one protocol stand in
// provider-chat.mjs, provider-responses.mjs and provider-anthropic.mjs. What stands behind an @ only makes a request easy to
// find again. Prints `listening on PORT` when it is ready.
//   POST /v1/chat/completions, /v1/responses, /v1/messages   answers as the model says
//   GET  /v1/models             200, or 401 when the key is not good-key, in the header of the one or the other house
//   POST /_script {model, turns}   from now on the n-th request for that model gets the n-th turn, and the last one from then on:
//                               {texts?: [TEXT…], calls?: [{name, arguments?: object or text, id?}…], usage?: {input?, output?, cached?, written?,
//                               reasoning?}, pace_ms?, cut?: N | hang?: N (behind N pieces), status?, message?, headers?}
//   GET  /_log                  what was asked, oldest first: [{id, method, path, authorization, headers, body, at, closed}]
//                               closed: null | "finished" | "early" (before the answer was complete)
//   GET  /_closed?model=NAME    waits until the newest request for that model was closed early (5 s at most)
import http from 'node:http'
import { anthropic } from './provider-anthropic.mjs'
import { chat } from './provider-chat.mjs'
import { DONE, json, soon, stream, WORDS } from './provider-lib.mjs'
import { responses } from './provider-responses.mjs'

const log = []
const scripts = new Map()
const waiters = []
const protocols = [chat, responses, anthropic]

const words = (p) => p.open() + WORDS.map(p.text).join('')
const whole = (p) => words(p) + p.close()

// Of all protocols; `p` is the one that is spoken.
const behaviours = {
  plain: (req, res, body, p) => {
    if (body.stream === false || !('stream' in body)) return json(res, 200, p.whole(WORDS.join('')))
    stream(res)
    res.end(whole(p))
  },
  'slow-start': async (req, res, body, p) => { await soon(150); stream(res); res.end(whole(p)) },
  'one-by-one': async (req, res, body, p) => {
    stream(res)
    for (const event of whole(p).split('\n\n').filter(Boolean)) { res.write(event + '\n\n'); await soon() }
    res.end()
  },
  'split-frames': async (req, res, body, p) => {
    const bytes = Buffer.from(whole(p))
    stream(res)
    for (let at = 0; at < bytes.length; at += 61) { res.write(bytes.subarray(at, at + 61)); await soon(1) }
    res.end()
  },
  crlf: (req, res, body, p) => { stream(res); res.end(whole(p).replaceAll('\n', '\r\n')) },
  'keepalive-comments': async (req, res, body, p) => {
    stream(res)
    res.write(': PROCESSING\n\n'); await soon()
    res.write(':\n\n' + words(p) + ': still here\n\n'); await soon()
    res.end(p.close())
  },
  'done-stays-open': (req, res, body, p) => { stream(res); res.write(whole(p)) },
  // Not streamed although it was asked for, and the other way round.
  'whole-anyway': (req, res, body, p) => json(res, 200, p.whole(WORDS.join(''))),
  'stream-anyway': (req, res, body, p) => { stream(res); res.end(whole(p)) },
  'nonstream-bad': (req, res) => { res.writeHead(200, { 'content-type': 'application/json' }); res.end('{"choices":[') },
  'wrong-type': (req, res) => { res.writeHead(200, { 'content-type': 'text/html' }); res.end('<h1>Welcome</h1>') },
  'no-type': (req, res) => { res.writeHead(200); res.end('hello') },
  redirect: (req, res) => { res.writeHead(302, { location: '/v1/elsewhere' }); res.end() },
  'bad-json': (req, res, body, p) => { stream(res); res.end(p.open() + p.text('a') + 'data: {"choices": [}\n\n' + DONE) },
  'bad-shape': (req, res, body, p) => { stream(res); res.end(p.open() + p.text('a') + 'data: [1]\n\n' + DONE) },
  'huge-event': (req, res) => { stream(res); res.end('data: ' + 'x'.repeat(1100000) + '\n\n' + DONE) },
  'huge-answer': (req, res, body, p) => {
    stream(res)
    const piece = p.text('x'.repeat(512 * 1024))
    res.write(p.open())
    for (let i = 0; i < 33; i++) res.write(piece)
    res.end(p.close())
  },
  'stream-error': (req, res, body, p) => { stream(res); res.end(words(p) + p.fault('it broke', 'server_error')) },
  'cut-clean': (req, res, body, p) => { stream(res); res.end(words(p)) },
  'reset-in-stream': async (req, res, body, p) => { stream(res); res.write(words(p)); await soon(20); res.socket.resetAndDestroy() },
  reset: (req, res) => { req.socket.resetAndDestroy() },
  'close-at-once': (req, res) => { req.socket.destroy() },
  hang: (req, res) => {},
  'hang-in-stream': (req, res, body, p) => { stream(res); res.write(words(p)) },
  endless: async (req, res, body, p) => {
    stream(res)
    res.write(p.open())
    while (!res.destroyed) { res.write(p.text('on and ')); await soon(1) }
  },
  'error-text': (req, res) => { res.writeHead(502, { 'content-type': 'text/html' }); res.end('<h1>Bad Gateway</h1>') },
}

const tell = async (turn, nth, req, res, body, p) => {
  if (turn.status) return json(res, turn.status, p.error(turn.message ?? `status ${turn.status}`), turn.headers)
  const calls = (turn.calls ?? []).map((call, i) => ({ id: call.id ?? `call_${nth}_${i}`, name: call.name,
    arguments: typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments ?? {}) }))
  const told = p.told({ ...turn, calls })
  if (body.stream === false || !('stream' in body)) return json(res, 200, told.whole)
  stream(res)
  const stop = turn.cut ?? turn.hang ?? Infinity
  for (const piece of told.pieces.slice(0, stop)) {
    res.write(piece)
    if (turn.pace_ms) await soon(turn.pace_ms)
  }
  if (turn.cut !== undefined) { await soon(20); return res.socket.destroy() }
  if (turn.hang === undefined) res.end(told.close)
}

const behave = (name, req, res, body, p) => {
  const script = scripts.get(body.model)
  if (script) {
    const nth = script.at++
    return tell(script.turns[Math.min(nth, script.turns.length - 1)], nth, req, res, body, p)
  }
  const cut = /^cut-(\d+)$/.exec(name)
  const error = /^error-(\d{3})$/.exec(name)
  const behaviour = p.own[name] ?? behaviours[name]
  if (behaviour) return behaviour(req, res, body, p)
  if (cut) {
    stream(res)
    res.write(p.open() + WORDS.slice(0, Number(cut[1])).map(p.text).join(''))
    return soon(20).then(() => res.socket.destroy())
  }
  if (error) return json(res, Number(error[1]), p.error(`status ${error[1]}`))
  return json(res, 404, p.error(`The model '${name}' does not exist`, 'invalid_request_error', 'model_not_found'))
}

const tellWaiters = () => {
  for (const waiter of [...waiters]) waiter()
}

const closedPage = (url, res) => {
  const entry = log.findLast((one) => one.model === url.searchParams.get('model'))
  const answer = () => {
    res.writeHead(200, { 'content-type': 'application/json' })
    res.end(JSON.stringify({ closed: entry?.closed ?? null }))
  }
  const done = () => {
    clearTimeout(timer)
    waiters.splice(waiters.indexOf(look), 1)
    answer()
  }
  const look = () => { if (entry?.closed === 'early') done() }
  const timer = setTimeout(done, 5000)
  waiters.push(look)
  look()
}

const pages = (req, res, url) => {
  if (url.pathname === '/_log') {
    res.writeHead(200, { 'content-type': 'application/json' })
    res.end(JSON.stringify(log))
  } else if (url.pathname === '/_closed') {
    closedPage(url, res)
  } else if (url.pathname === '/v1/models') {
    if (!protocols.some((p) => p.authorized(req))) return json(res, 401, chat.error('no', null, 'invalid_api_key'))
    json(res, 200, { object: 'list', data: Object.keys(behaviours).map((id) => ({ id, object: 'model' })) })
  } else {
    json(res, 404, chat.error('no such page'))
  }
}

const takeScript = async (req, res) => {
  let text = ''
  for await (const piece of req) text += piece
  const { model, turns } = JSON.parse(text)
  scripts.set(model, { turns, at: 0 })
  json(res, 200, {})
}

const answer = async (req, res, protocol) => {
  let text = ''
  for await (const piece of req) text += piece
  const body = JSON.parse(text)
  const entry = { id: log.length + 1, method: req.method, path: req.url, authorization: req.headers.authorization ?? null,
    headers: req.headers, model: body.model, body, at: Date.now(), closed: null }
  log.push(entry)
  res.on('close', () => { entry.closed = res.writableFinished ? 'finished' : 'early'; tellWaiters() })
  await behave(body.model.split('@')[0], req, res, body, protocol)
}

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://localhost')
  req.socket.setNoDelay(true)
  const protocol = protocols.find((p) => p.path === url.pathname)
  if (req.method === 'POST' && protocol) answer(req, res, protocol).catch(() => res.destroy())
  else if (req.method === 'POST' && url.pathname === '/_script') takeScript(req, res).catch(() => res.destroy())
  else pages(req, res, url)
})
server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`))
