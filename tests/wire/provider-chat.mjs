// SPDX-License-Identifier: Apache-2.0
// provider-chat.mjs - the words of OpenAI's chat completions for provider-server.mjs.
import { DONE, drip, event, json, soon, stream, WORDS } from './provider-lib.mjs'

const chunk = (delta, rest = {}) => event({
  id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'real-model-7',
  choices: [{ index: 0, delta, finish_reason: null, ...rest }],
})
const finish = (reason) => chunk({}, { finish_reason: reason })
const counts = (input, output, details = {}) => ({ prompt_tokens: input, completion_tokens: output, total_tokens: input + output, ...details })
const usage = (input, output, details) => event({
  id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'real-model-7', choices: [], usage: counts(input, output, details),
})
const DETAILS = { prompt_tokens_details: { cached_tokens: 64 }, completion_tokens_details: { reasoning_tokens: 30 } }
const open = () => chunk({ role: 'assistant', content: '' })
const text = (content) => chunk({ content })
const words = () => open() + WORDS.map(text).join('')
const message = (id, message, finish_reason, usage) => ({ id, object: 'chat.completion', created: 1, model: 'real-model-7',
  choices: [{ index: 0, message: { role: 'assistant', content: null, refusal: null, ...message }, finish_reason, logprobs: null }], usage })
const call = (index, id, name, args) => chunk({ tool_calls: [{ index, ...(id && { id, type: 'function' }),
  function: { ...(name && { name }), arguments: args } }] })
const bare = (body) => chunk({ tool_calls: [body] })
const WEATHER = { id: 'call_a', type: 'function', function: { name: 'weather', arguments: '{"city":"Ulm"}' } }
const CLOCK = { id: 'call_b', type: 'function', function: { name: 'clock', arguments: '{}' } }

export const chat = {
  path: '/v1/chat/completions',
  authorized: (req) => req.headers.authorization === 'Bearer good-key',
  open,
  text,
  close: () => finish('stop') + usage(11, 5) + DONE,
  fault: (message, type, code = null) => event({ error: { message, type, code } }),
  error: (message, type = null, code = null) => ({ error: { message, type, code, param: null } }),
  whole: (content) => message('chatcmpl-1', { content }, 'stop', counts(11, 5)),
  // What a script says (see POST /_script): input and output include cached and reasoning tokens, as this protocol has it.
  told: ({ texts = [], calls = [], usage: u = {} }) => {
    const details = { prompt_tokens_details: { cached_tokens: u.cached ?? 0 }, completion_tokens_details: { reasoning_tokens: u.reasoning ?? 0 } }
    const functions = calls.map(({ id, name, arguments: args }) => ({ id, type: 'function', function: { name, arguments: args } }))
    return {
      pieces: [open(), ...texts.map(text), ...functions.map((f, i) => call(i, f.id, f.function.name, f.function.arguments))],
      close: finish(calls.length ? 'tool_calls' : 'stop') + usage(u.input ?? 11, u.output ?? 5, details) + DONE,
      whole: message('chatcmpl-1', { content: texts.join('') || null, ...(calls.length && { tool_calls: functions }) }, calls.length ? 'tool_calls' : 'stop',
        counts(u.input ?? 11, u.output ?? 5, details)),
    }
  },
  own: {
    reasoning: (req, res) => {
      stream(res)
      res.end(chunk({ reasoning_content: 'Hm.' }) + chunk({ reasoning: ' Well.' }) +
        chunk({ reasoning: ' Twice.', reasoning_content: ' Twice.' }) + text('Yes.') + finish('stop') + DONE)
    },
    tools: (req, res, body) => {
      if (body.stream === false) return json(res, 200, message('chatcmpl-1', { tool_calls: [WEATHER, CLOCK] }, 'tool_calls', counts(20, 9)))
      stream(res)
      res.end(chunk({ role: 'assistant', content: null }) + call(0, 'call_a', 'weather', '') + call(0, null, null, '{"city":') +
        call(1, 'call_b', 'clock', '{}') + call(0, null, null, '"Ulm"}') + finish('tool_calls') + usage(20, 9) + DONE)
    },
    'tools-no-index': (req, res) => {
      stream(res)
      res.end(bare({ id: 'a', function: { name: 'f', arguments: '{"x":' } }) + bare({ function: { arguments: '1}' } }) +
        bare({ id: 'b', function: { name: 'g', arguments: '{}' } }) + finish('tool_calls') + DONE)
    },
    'tools-no-id': (req, res) => { stream(res); res.end(bare({ index: 3, function: { name: 'f', arguments: '{}' } }) + finish('stop') + DONE) },
    'tools-no-name': (req, res) => { stream(res); res.end(bare({ index: 0, id: 'a', function: { arguments: '{}' } }) + finish('stop') + DONE) },
    'tools-bad-index': (req, res) => {
      stream(res)
      res.end(bare({ index: 4096, id: 'a', function: { name: 'f', arguments: '' } }) + DONE)
    },
    'usage-details': (req, res, body) => {
      if (body.stream === false) return json(res, 200, message('chatcmpl-1', { content: 'x' }, 'stop', counts(100, 50, DETAILS)))
      stream(res)
      res.end(text('x') + finish('stop') + usage(100, 50, DETAILS) + DONE)
    },
    length: (req, res) => { stream(res); res.end(words() + finish('length') + DONE) },
    filtered: (req, res) => { stream(res); res.end(words() + finish('content_filter') + DONE) },
    'odd-finish': (req, res) => { stream(res); res.end(words() + finish('eos_token') + DONE) },
    'no-done': (req, res) => { stream(res); res.end(words() + finish('stop') + usage(11, 5)) },
    'no-finish': (req, res) => { stream(res); res.end(words() + DONE) },
    'behind-done': (req, res) => { stream(res); res.end(words() + chat.close() + text(' never') + 'data: {{{\n\n') },
    'finish-then-reset': async (req, res) => { stream(res); res.write(words() + finish('stop')); await soon(20); res.socket.resetAndDestroy() },
    'two-choices': (req, res) => {
      stream(res)
      res.end(words() + chunk({ content: 'other' }, { index: 1, finish_reason: 'length' }) + finish('stop') + DONE)
    },
    nonstream: (req, res) => json(res, 200, message('chatcmpl-2', { content: 'All at once.', reasoning_content: 'Hm.', tool_calls: [WEATHER] },
      'tool_calls', counts(3, 4))),
    'split-utf8': async (req, res) => {
      stream(res)
      await drip(res, Buffer.from(text('grüß') + text(' dich 🌊€') + finish('stop') + DONE), 7)
      res.end()
    },
    escapes: (req, res) => {
      stream(res)
      res.end('data: {"choices":[{"index":0,"delta":{"content":"\\ud83c\\udf0a \\"q\\"\\n"},"finish_reason":"stop"}]}\n\n' + DONE)
    },
    'bad-content': (req, res) => { stream(res); res.end(chunk({ content: { text: 'a' } }) + DONE) },
    'stream-error-rate': (req, res) => { stream(res); res.end(event({ error: { message: 'slow down', code: 429 } })) },
    'stream-error-bare': (req, res) => {
      stream(res)
      res.end(event({ object: 'error', message: 'too long', type: 'BadRequestError', code: 400 }))
    },
    'error-429': (req, res) => json(res, 429, chat.error('Rate limit reached', 'requests', 'rate_limit_exceeded'), { 'retry-after': '2' }),
    'error-503': (req, res) => json(res, 503, chat.error('Overloaded', 'overloaded_error'), { 'retry-after': '30' }),
    'error-quota': (req, res) => json(res, 429, chat.error('You exceeded your quota', 'insufficient_quota', 'insufficient_quota')),
    'error-context': (req, res) => json(res, 400, chat.error("This model's maximum context length is 8192 tokens.", 'invalid_request_error', 'context_length_exceeded')),
    'error-context-words': (req, res) => json(res, 400, { object: 'error', message: "This model's maximum context length is 512 tokens.", type: 'BadRequestError', code: 400 }),
    'error-content': (req, res) => json(res, 400, chat.error('The response was filtered', null, 'content_filter')),
    'error-string': (req, res) => json(res, 400, { error: 'model is not loaded' }),
    'error-echo-key': (req, res) => json(res, 401, chat.error(`Incorrect API key provided: ${req.headers.authorization}`,
      'invalid_request_error', 'invalid_api_key')),
    'error-long': (req, res) => json(res, 400, chat.error('ü'.repeat(2000), 'invalid_request_error')),
  },
}
