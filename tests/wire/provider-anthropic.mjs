// SPDX-License-Identifier: Apache-2.0
// provider-anthropic.mjs - the words of Anthropic's Messages for provider-server.mjs.
import { drip, event, json, stream, WORDS } from './provider-lib.mjs'

const say = (type, rest = {}) => event({ type, ...rest }, type)
const MESSAGE = { id: 'msg_1', type: 'message', role: 'assistant', model: 'real-claude-7', content: [], stop_reason: null, stop_sequence: null }
const usage = (input, output, rest = {}) => ({ input_tokens: input, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: output, ...rest })
const start = (counts = usage(11, 1)) => say('message_start', { message: { ...MESSAGE, usage: counts } }) + say('ping')
const begin = (index, content_block) => say('content_block_start', { index, content_block })
const delta = (index, delta) => say('content_block_delta', { index, delta })
const stop = (index) => say('content_block_stop', { index })
const finish = (stop_reason, counts = { output_tokens: 5 }) => say('message_delta', { delta: { stop_reason, stop_sequence: null }, usage: counts }) + say('message_stop')
const textBlock = (index, texts) => begin(index, { type: 'text', text: '' }) + texts.map((text) => delta(index, { type: 'text_delta', text })).join('') + stop(index)
const words = () => start() + textBlock(0, WORDS)
const message = (content, stop_reason, counts) => ({ ...MESSAGE, content, stop_reason, usage: counts })
const CALLS = [{ type: 'tool_use', id: 'toolu_a', name: 'weather', input: { city: 'Ulm' } }, { type: 'tool_use', id: 'toolu_b', name: 'clock', input: {} }]
const CACHED = { cache_creation_input_tokens: 7, cache_read_input_tokens: 64 }

export const anthropic = {
  path: '/v1/messages',
  authorized: (req) => req.headers['x-api-key'] === 'good-key' && !!req.headers['anthropic-version'],
  open: () => start() + begin(0, { type: 'text', text: '' }),
  text: (text) => delta(0, { type: 'text_delta', text }),
  close: () => stop(0) + finish('end_turn'),
  fault: (message, type) => say('error', { error: { type, message } }),
  error: (message, type = 'invalid_request_error') => ({ type: 'error', error: { type, message }, request_id: 'req_1' }),
  whole: (text) => message([{ type: 'text', text }], 'end_turn', usage(11, 5)),
  // Here the input is without what the cache gave and took.
  told: ({ texts = [], calls = [], usage: u = {} }) => {
    const cached = u.cached ?? 0
    const written = u.written ?? 0
    const input = usage((u.input ?? 11) - cached - written, 1, { cache_read_input_tokens: cached, cache_creation_input_tokens: written })
    const output = { output_tokens: u.output ?? 5, ...(u.reasoning && { output_tokens_details: { thinking_tokens: u.reasoning } }) }
    const first = texts.length ? 1 : 0
    const why = calls.length ? 'tool_use' : 'end_turn'
    return {
      pieces: [start(input) + (first ? begin(0, { type: 'text', text: '' }) : ''), ...texts.map((text) => delta(0, { type: 'text_delta', text })),
        (first ? stop(0) : '') + calls.map(({ id, name, arguments: args }, i) => begin(first + i, { type: 'tool_use', id, name, input: {} }) +
          delta(first + i, { type: 'input_json_delta', partial_json: args }) + stop(first + i)).join('')],
      close: finish(why, output),
      whole: message([...(first ? [{ type: 'text', text: texts.join('') }] : []), ...calls.map(({ id, name, arguments: args }) =>
        ({ type: 'tool_use', id, name, input: JSON.parse(args) }))], why, { ...input, ...output }),
    }
  },
  own: {
    tools: (req, res, body) => {
      const content = [{ type: 'text', text: 'Let me look.' }, ...CALLS]
      if (body.stream === false) return json(res, 200, message(content, 'tool_use', usage(20, 9)))
      const open = (index, call) => begin(index, { ...call, input: {} })
      stream(res)
      res.end(start(usage(20, 1)) + textBlock(0, ['Let me', ' look.']) + open(1, CALLS[0]) + delta(1, { type: 'input_json_delta', partial_json: '' }) +
        delta(1, { type: 'input_json_delta', partial_json: '{"city":' }) + open(2, CALLS[1]) +
        delta(1, { type: 'input_json_delta', partial_json: '"Ulm"}' }) + stop(1) + stop(2) + finish('tool_use', { output_tokens: 9 }))
    },
    thinking: (req, res, body) => {
      const blocks = [{ type: 'thinking', thinking: 'Hm. Well.', signature: 'c2lnbmF0dXJl' }, { type: 'redacted_thinking', data: 'cmVkYWN0ZWQ=' }]
      const counts = { output_tokens: 40, output_tokens_details: { thinking_tokens: 30 } }
      if (body.stream === false) return json(res, 200, message([...blocks, { type: 'text', text: 'Yes.' }], 'end_turn', { ...usage(11, 40), ...counts }))
      stream(res)
      res.end(start() + begin(0, { type: 'thinking', thinking: '', signature: '' }) + delta(0, { type: 'thinking_delta', thinking: 'Hm.' }) +
        delta(0, { type: 'thinking_delta', thinking: ' Well.' }) + delta(0, { type: 'signature_delta', signature: 'c2lnbmF0dXJl' }) + stop(0) +
        begin(1, blocks[1]) + stop(1) + textBlock(2, ['Yes.']) + finish('end_turn', counts))
    },
    'usage-details': (req, res, body) => {
      if (body.stream === false) return json(res, 200, message([{ type: 'text', text: 'x' }], 'end_turn', usage(29, 20, CACHED)))
      stream(res)
      res.end(start(usage(29, 1, CACHED)) + textBlock(0, ['x']) + finish('end_turn', { output_tokens: 20 }))
    },
    'unknown-things': (req, res) => {
      stream(res)
      res.end(start() + say('weather_report', { sunny: true }) + begin(0, { type: 'server_tool_use', id: 's', name: 'web_search', input: {} }) +
        delta(0, { type: 'input_json_delta', partial_json: '{}' }) + stop(0) + begin(1, { type: 'text', text: 'a' }) +
        delta(1, { type: 'citations_delta', citation: {} }) + delta(1, { type: 'text_delta', text: 'b' }) + stop(1) + finish('end_turn'))
    },
    length: (req, res) => { stream(res); res.end(words() + finish('max_tokens')) },
    refusal: (req, res) => { stream(res); res.end(start() + finish('refusal')) },
    paused: (req, res) => { stream(res); res.end(words() + finish('pause_turn')) },
    'no-stop': (req, res) => {
      stream(res)
      res.end(words() + say('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5 } }))
    },
    'bad-index': (req, res) => { stream(res); res.end(start() + begin(4096, { type: 'text', text: '' })) },
    'no-content': (req, res) => json(res, 200, { ...MESSAGE, content: null }),
    'split-utf8': async (req, res) => {
      stream(res)
      await drip(res, Buffer.from(start() + textBlock(0, ['grüß', ' dich 🌊€']) + finish('end_turn')), 7)
      res.end()
    },
    'stream-error-overloaded': (req, res) => { stream(res); res.end(words() + anthropic.fault('Overloaded', 'overloaded_error')) },
    'error-429': (req, res) => json(res, 429, anthropic.error('Number of request tokens has exceeded your rate limit', 'rate_limit_error'), { 'retry-after': '7' }),
    'error-529': (req, res) => json(res, 529, anthropic.error('Overloaded', 'overloaded_error')),
    'error-billing': (req, res) => json(res, 402, anthropic.error('Your credit is used up', 'billing_error')),
    'error-context': (req, res) => json(res, 400, anthropic.error('prompt is too long: 210000 tokens > 200000 maximum')),
    'error-echo-key': (req, res) => json(res, 401, anthropic.error(`invalid x-api-key ${req.headers['x-api-key']}`, 'authentication_error')),
  },
}
