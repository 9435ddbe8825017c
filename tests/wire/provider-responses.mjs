// SPDX-License-Identifier: Apache-2.0
// provider-responses.mjs - the words of OpenAI's Responses for provider-server.mjs.
import { drip, event, json, stream, WORDS } from './provider-lib.mjs'

let sequence = 0
const say = (type, rest = {}) => event({ type, sequence_number: sequence++, ...rest }, type)
const counts = (input, output, cached = 0, reasoning = 0) => ({ input_tokens: input, input_tokens_details: { cached_tokens: cached },
  output_tokens: output, output_tokens_details: { reasoning_tokens: reasoning }, total_tokens: input + output })
const response = (status, output = [], rest = {}) => ({ id: 'resp_1', object: 'response', created_at: 1, status, error: null, incomplete_details: null,
  instructions: null, metadata: {}, model: 'real-model-7', output, parallel_tool_calls: true, temperature: 1, tool_choice: 'auto', tools: [], top_p: 1,
  usage: null, ...rest })
const part = (text) => ({ type: 'output_text', text, annotations: [] })
const item = (texts, status = 'completed') => ({ id: 'msg_1', type: 'message', status, role: 'assistant', content: texts.map(part) })
const created = () => say('response.created', { response: response('in_progress') }) + say('response.in_progress', { response: response('in_progress') })
const added = (output_index, item) => say('response.output_item.added', { output_index, item })
const done = (output_index, item) => say('response.output_item.done', { output_index, item })
const begin = (index = 0) => added(index, item([], 'in_progress')) + say('response.content_part.added', { item_id: 'msg_1', output_index: index, content_index: 0, part: part('') })
const delta = (text, index = 0) => say('response.output_text.delta', { item_id: 'msg_1', output_index: index, content_index: 0, delta: text, logprobs: [] })
const end = (text, index = 0) => say('response.output_text.done', { item_id: 'msg_1', output_index: index, content_index: 0, text, logprobs: [] }) +
  say('response.content_part.done', { item_id: 'msg_1', output_index: index, content_index: 0, part: part(text) }) + done(index, item([text]))
const ended = (status, output, rest) => say(`response.${status}`, { response: response(status, output, rest) })
const said = (texts, index = 0) => begin(index) + texts.map((text) => delta(text, index)).join('') + end(texts.join(''), index)
const ALL = WORDS.join('')
const CALLS = [{ id: 'fc_1', type: 'function_call', call_id: 'call_a', name: 'weather', arguments: '{"city":"Ulm"}', status: 'completed' },
  { id: 'fc_2', type: 'function_call', call_id: 'call_b', name: 'clock', arguments: '{}', status: 'completed' }]
const THOUGHT = { id: 'rs_1', type: 'reasoning', summary: [{ type: 'summary_text', text: 'Hm.' }, { type: 'summary_text', text: 'Well.' }], encrypted_content: 'ZW5jcnlwdGVk' }

export const responses = {
  path: '/v1/responses',
  authorized: (req) => req.headers.authorization === 'Bearer good-key',
  open: () => created() + begin(),
  text: (text) => delta(text),
  close: () => end(ALL) + ended('completed', [item([ALL])], { usage: counts(11, 5) }),
  fault: (message, type, code = type) => say('error', { code, message, param: null }),
  error: (message, type = null, code = null) => ({ error: { message, type, code, param: null } }),
  whole: (text) => response('completed', [item([text])], { usage: counts(11, 5) }),
  told: ({ texts = [], calls = [], usage: u = {} }) => {
    const functions = calls.map(({ id, name, arguments: args }, i) => ({ id: `fc_${i}`, type: 'function_call', call_id: id, name, arguments: args, status: 'completed' }))
    const output = [...(texts.length ? [item([texts.join('')])] : []), ...functions]
    const first = texts.length ? 1 : 0
    const all = response('completed', output, { usage: counts(u.input ?? 11, u.output ?? 5, u.cached ?? 0, u.reasoning ?? 0) })
    return {
      pieces: [created() + (first ? begin() : ''), ...texts.map((text) => delta(text)), ...functions.map((f, i) =>
        added(first + i, { ...f, arguments: '', status: 'in_progress' }) +
        say('response.function_call_arguments.delta', { output_index: first + i, item_id: f.id, delta: f.arguments }) +
        say('response.function_call_arguments.done', { output_index: first + i, item_id: f.id, arguments: f.arguments }) + done(first + i, f))],
      close: (first ? end(texts.join('')) : '') + say('response.completed', { response: all }),
      whole: all,
    }
  },
  own: {
    tools: (req, res, body) => {
      const all = response('completed', CALLS, { usage: counts(20, 9) })
      if (body.stream === false) return json(res, 200, all)
      const args = (output_index, item_id, delta) => say('response.function_call_arguments.delta', { output_index, item_id, delta })
      stream(res)
      res.end(created() + added(0, { ...CALLS[0], arguments: '', status: 'in_progress' }) + args(0, 'fc_1', '{"city":') +
        added(1, { ...CALLS[1], arguments: '', status: 'in_progress' }) + args(0, 'fc_1', '"Ulm"}') +
        say('response.function_call_arguments.done', { output_index: 0, item_id: 'fc_1', arguments: CALLS[0].arguments }) + done(0, CALLS[0]) +
        done(1, CALLS[1]) + say('response.completed', { response: all }))
    },
    reasoning: (req, res, body) => {
      const all = response('completed', [THOUGHT, item(['Yes.'])], { usage: counts(100, 50, 64, 30) })
      if (body.stream === false) return json(res, 200, all)
      const summary = (summary_index, text) => say('response.reasoning_summary_part.added', { item_id: 'rs_1', output_index: 0, summary_index, part: { type: 'summary_text', text: '' } }) +
        say('response.reasoning_summary_text.delta', { item_id: 'rs_1', output_index: 0, summary_index, delta: text }) +
        say('response.reasoning_summary_text.done', { item_id: 'rs_1', output_index: 0, summary_index, text })
      stream(res)
      res.end(created() + added(0, { ...THOUGHT, summary: [], encrypted_content: null }) + summary(0, 'Hm.') + summary(1, 'Well.') + done(0, THOUGHT) +
        said(['Yes.'], 1) + say('response.completed', { response: all }))
    },
    'open-reasoning': (req, res) => {
      stream(res)
      res.end(created() + say('response.reasoning_text.delta', { item_id: 'rs_1', output_index: 0, content_index: 0, delta: 'Hm.' }) + said(['Yes.'], 1) +
        ended('completed', []))
    },
    refusal: (req, res) => {
      stream(res)
      res.end(created() + begin() + say('response.refusal.delta', { item_id: 'msg_1', output_index: 0, content_index: 0, delta: 'No.' }) + ended('completed', []))
    },
    'only-the-end': (req, res) => { stream(res); res.end(created() + ended('completed', [item(['All', ' here.']), CALLS[0]], { usage: counts(1, 2) })) },
    length: (req, res) => { stream(res); res.end(created() + said(WORDS) + ended('incomplete', [item([ALL])], { incomplete_details: { reason: 'max_output_tokens' }, usage: counts(11, 5) })) },
    filtered: (req, res) => { stream(res); res.end(created() + ended('incomplete', [], { incomplete_details: { reason: 'content_filter' } })) },
    failed: (req, res, body) => {
      const rest = { error: { code: 'server_error', message: 'The model failed.' } }
      if (body.stream === false) return json(res, 200, response('failed', [], rest))
      stream(res)
      res.end(created() + ended('failed', [], rest))
    },
    'failed-rate': (req, res) => { stream(res); res.end(created() + ended('failed', [], { error: { code: 'rate_limit_exceeded', message: 'Slow down.' } })) },
    'bad-index': (req, res) => { stream(res); res.end(created() + added(4096, CALLS[0])) },
    'bad-arguments': (req, res) => { stream(res); res.end(created() + say('response.function_call_arguments.delta', { output_index: 0, item_id: 'x', delta: '{' })) },
    'no-output': (req, res) => json(res, 200, response('completed', null)),
    'split-utf8': async (req, res) => {
      stream(res)
      await drip(res, Buffer.from(created() + said(['grüß', ' dich 🌊€']) + ended('completed', [])), 7)
      res.end()
    },
    'error-429': (req, res) => json(res, 429, responses.error('Rate limit reached', 'requests', 'rate_limit_exceeded'), { 'retry-after-ms': '1500', 'retry-after': '2' }),
    'error-date': (req, res) => json(res, 503, responses.error('Later'), { 'retry-after': new Date(Date.now() + 90000).toUTCString() }),
    'error-context': (req, res) => json(res, 400, responses.error('Your input exceeds the context window of this model.', 'invalid_request_error', 'context_length_exceeded')),
    'error-echo-key': (req, res) => json(res, 401, responses.error(`Incorrect API key provided: ${req.headers.authorization}`, 'invalid_request_error', 'invalid_api_key')),
  },
}
