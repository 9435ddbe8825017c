// SPDX-License-Identifier: Apache-2.0
// provider-server.mjs - speaks OpenAI's chat completions, well and badly, for tests.
//
// The model that is asked for says how: see `behaviours`. What stands behind an @ only makes a request easy to find again.
// Prints `listening on PORT` when it is ready.
//   POST /v1/chat/completions   answers as the model says
//   GET  /v1/models             200, or 401 when the key is not `Bearer good-key`
//   GET  /_log                  what was asked, oldest first: [{id, method, path, authorization, headers, body, closed}]
//                               closed: null | "finished" | "early" (before the answer was complete)
//   GET  /_closed?model=NAME    waits until the newest request for that model was closed early (5 s at most)
import http from 'node:http'

const log = []
const waiters = []

const chunk = (delta, rest = {}) => 'data: ' + JSON.stringify({
  id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'real-model-7',
  choices: [{ index: 0, delta, finish_reason: null, ...rest }],
}) + '\n\n'
const finish = (reason) => chunk({}, { finish_reason: reason })
const usage = (input, output) => 'data: ' + JSON.stringify({
  id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'real-model-7', choices: [],
  usage: { prompt_tokens: input, completion_tokens: output, total_tokens: input + output },
}) + '\n\n'
const DONE = 'data: [DONE]\n\n'
const WORDS = ['One', ' two', ' three', ' four', ' five']
const words = () => chunk({ role: 'assistant', content: '' }) + WORDS.map((content) => chunk({ content })).join('')
const whole = () => words() + finish('stop') + usage(11, 5) + DONE

const stream = (res, headers = {}) => {
  res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache', ...headers })
}
const fail = (res, status, error, headers = {}) => {
  res.writeHead(status, { 'content-type': 'application/json', ...headers })
  res.end(JSON.stringify({ error }))
}
const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms))
// Each piece leaves in a packet of its own.
const drip = async (res, bytes, size) => {
  for (let at = 0; at < bytes.length && !res.destroyed; at += size) {
    res.write(bytes.subarray(at, at + size))
    await soon(1)
  }
}

const behaviours = {
  plain: (req, res) => { stream(res); res.end(whole()) },
  'slow-start': async (req, res) => { await soon(150); stream(res); res.end(whole()) },
  'one-by-one': async (req, res) => {
    stream(res)
    for (const event of whole().split('\n\n').filter(Boolean)) { res.write(event + '\n\n'); await soon() }
    res.end()
  },
  'split-utf8': async (req, res) => {
    stream(res)
    await drip(res, Buffer.from(chunk({ content: 'grüß' }) + chunk({ content: ' dich 🌊€' }) + finish('stop') + DONE), 7)
    res.end()
  },
  escapes: (req, res) => {
    stream(res)
    res.end('data: {"choices":[{"index":0,"delta":{"content":"\\ud83c\\udf0a \\"q\\"\\n"},"finish_reason":"stop"}]}\n\n' + DONE)
  },
  crlf: (req, res) => { stream(res); res.end(whole().replaceAll('\n', '\r\n')) },
  'keepalive-comments': async (req, res) => {
    stream(res)
    res.write(': PROCESSING\n\n'); await soon()
    res.write(':\n\n' + words() + ': still here\n\n'); await soon()
    res.end(finish('stop') + usage(11, 5) + DONE)
  },
  reasoning: (req, res) => {
    stream(res)
    res.end(chunk({ reasoning_content: 'Hm.' }) + chunk({ reasoning: ' Well.' }) +
      chunk({ reasoning: ' Twice.', reasoning_content: ' Twice.' }) + chunk({ content: 'Yes.' }) + finish('stop') + DONE)
  },
  tools: (req, res) => {
    const call = (index, id, name, args) => chunk({ tool_calls: [{ index, ...(id && { id, type: 'function' }),
      function: { ...(name && { name }), arguments: args } }] })
    stream(res)
    res.end(chunk({ role: 'assistant', content: null }) + call(0, 'call_a', 'weather', '') + call(0, null, null, '{"city":') +
      call(1, 'call_b', 'clock', '{}') + call(0, null, null, '"Ulm"}') + finish('tool_calls') + usage(20, 9) + DONE)
  },
  'tools-no-index': (req, res) => {
    const call = (body) => chunk({ tool_calls: [body] })
    stream(res)
    res.end(call({ id: 'a', function: { name: 'f', arguments: '{"x":' } }) + call({ function: { arguments: '1}' } }) +
      call({ id: 'b', function: { name: 'g', arguments: '{}' } }) + finish('tool_calls') + DONE)
  },
  'tools-bad-index': (req, res) => {
    stream(res)
    res.end(chunk({ tool_calls: [{ index: 4096, id: 'a', function: { name: 'f', arguments: '' } }] }) + DONE)
  },
  length: (req, res) => { stream(res); res.end(words() + finish('length') + DONE) },
  'no-done': (req, res) => { stream(res); res.end(words() + finish('stop') + usage(11, 5)) },
  'no-finish': (req, res) => { stream(res); res.end(words() + DONE) },
  'done-stays-open': (req, res) => { stream(res); res.write(whole()) },
  'behind-done': (req, res) => { stream(res); res.end(whole() + chunk({ content: ' never' }) + 'data: {{{\n\n') },
  'finish-then-reset': async (req, res) => { stream(res); res.write(words() + finish('stop')); await soon(20); res.socket.resetAndDestroy() },
  'two-choices': (req, res) => {
    stream(res)
    res.end(words() + chunk({ content: 'other' }, { index: 1, finish_reason: 'length' }) + finish('stop') + DONE)
  },
  nonstream: (req, res) => {
    res.writeHead(200, { 'content-type': 'application/json' })
    res.end(JSON.stringify({ id: 'chatcmpl-2', object: 'chat.completion', model: 'real-model-7', choices: [{ index: 0,
      message: { role: 'assistant', content: 'All at once.', reasoning_content: 'Hm.',
        tool_calls: [{ id: 'call_a', type: 'function', function: { name: 'weather', arguments: '{"city":"Ulm"}' } }] },
      finish_reason: 'tool_calls' }], usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 } }))
  },
  'nonstream-bad': (req, res) => { res.writeHead(200, { 'content-type': 'application/json' }); res.end('{"choices":[') },
  'wrong-type': (req, res) => { res.writeHead(200, { 'content-type': 'text/html' }); res.end('<h1>Welcome</h1>') },
  'no-type': (req, res) => { res.writeHead(200); res.end('hello') },
  redirect: (req, res) => { res.writeHead(302, { location: '/v1/elsewhere' }); res.end() },
  'bad-json': (req, res) => { stream(res); res.end(chunk({ content: 'a' }) + 'data: {"choices": [}\n\n' + DONE) },
  'bad-shape': (req, res) => { stream(res); res.end(chunk({ content: 'a' }) + 'data: [1]\n\n' + DONE) },
  'bad-content': (req, res) => { stream(res); res.end(chunk({ content: { text: 'a' } }) + DONE) },
  'huge-event': (req, res) => { stream(res); res.end('data: ' + 'x'.repeat(1100000) + '\n\n' + DONE) },
  'huge-answer': (req, res) => {
    stream(res)
    const piece = chunk({ content: 'x'.repeat(512 * 1024) })
    for (let i = 0; i < 33; i++) res.write(piece)
    res.end(finish('stop') + DONE)
  },
  'stream-error': (req, res) => {
    stream(res)
    res.end(words() + 'data: ' + JSON.stringify({ error: { message: 'it broke', type: 'server_error', code: null } }) + '\n\n')
  },
  'stream-error-rate': (req, res) => {
    stream(res)
    res.end('data: ' + JSON.stringify({ error: { message: 'slow down', code: 429 } }) + '\n\n')
  },
  'stream-error-bare': (req, res) => {
    stream(res)
    res.end('data: ' + JSON.stringify({ object: 'error', message: 'too long', type: 'BadRequestError', code: 400 }) + '\n\n')
  },
  'cut-clean': (req, res) => { stream(res); res.end(words()) },
  reset: (req, res) => { req.socket.resetAndDestroy() },
  'close-at-once': (req, res) => { req.socket.destroy() },
  hang: (req, res) => {},
  'hang-in-stream': (req, res) => { stream(res); res.write(words()) },
  endless: async (req, res) => {
    stream(res)
    while (!res.destroyed) { res.write(chunk({ content: 'on and ' })); await soon(1) }
  },
  'error-echo-key': (req, res) => fail(res, 401, { message: `Incorrect API key provided: ${req.headers.authorization}`,
    type: 'invalid_request_error', code: 'invalid_api_key' }),
  'error-long': (req, res) => fail(res, 400, { message: 'ü'.repeat(2000), type: 'invalid_request_error', code: null }),
  'error-429': (req, res) => fail(res, 429, { message: 'Rate limit reached', type: 'requests', code: 'rate_limit_exceeded' },
    { 'retry-after': '2' }),
  'error-quota': (req, res) => fail(res, 429, { message: 'You exceeded your quota', type: 'insufficient_quota', code: 'insufficient_quota' }),
  'error-text': (req, res) => { res.writeHead(502, { 'content-type': 'text/html' }); res.end('<h1>Bad Gateway</h1>') },
  'error-string': (req, res) => fail(res, 400, 'model is not loaded'),
  'error-503': (req, res) => fail(res, 503, { message: 'Overloaded', type: 'overloaded_error' }, { 'retry-after': '30' }),
}

const behave = (name, req, res) => {
  const cut = /^cut-(\d+)$/.exec(name)
  const error = /^error-(\d{3})$/.exec(name)
  if (behaviours[name]) return behaviours[name](req, res)
  if (cut) {
    stream(res)
    res.write(chunk({ role: 'assistant', content: '' }) + WORDS.slice(0, Number(cut[1])).map((content) => chunk({ content })).join(''))
    return soon(20).then(() => res.socket.destroy())
  }
  if (error) return fail(res, Number(error[1]), { message: `status ${error[1]}`, type: null, code: null })
  return fail(res, 404, { message: `The model '${name}' does not exist`, type: 'invalid_request_error', code: 'model_not_found' })
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
    if (req.headers.authorization !== 'Bearer good-key') return fail(res, 401, { message: 'no', code: 'invalid_api_key' })
    res.writeHead(200, { 'content-type': 'application/json' })
    res.end(JSON.stringify({ object: 'list', data: Object.keys(behaviours).map((id) => ({ id, object: 'model' })) }))
  } else {
    fail(res, 404, { message: 'no such page', code: null })
  }
}

const completions = async (req, res) => {
  let text = ''
  for await (const piece of req) text += piece
  const body = JSON.parse(text)
  const entry = { id: log.length + 1, method: req.method, path: req.url, authorization: req.headers.authorization ?? null,
    headers: req.headers, model: body.model, body, closed: null }
  log.push(entry)
  res.on('close', () => { entry.closed = res.writableFinished ? 'finished' : 'early'; tellWaiters() })
  await behave(body.model.split('@')[0], req, res)
}

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://localhost')
  req.socket.setNoDelay(true)
  if (req.method === 'POST' && url.pathname === '/v1/chat/completions') completions(req, res).catch(() => res.destroy())
  else pages(req, res, url)
})
server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`))
