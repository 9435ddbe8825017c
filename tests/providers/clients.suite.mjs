// SPDX-License-Identifier: Apache-2.0
// clients.suite.mjs - the published clients against tests/wire/provider-server.mjs: what our providers are tested with is what
// the houses themselves understand.
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ALL = 'One two three four five'
const messages = [{ role: 'user', content: 'hello' }]
let server, openai, anthropic

before(async () => {
  server = spawn(process.execPath, [fileURLToPath(new URL('../wire/provider-server.mjs', import.meta.url))], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface({ input: server.stdout })
  const port = await new Promise((resolve) => lines.once('line', (line) => resolve(/listening on (\d+)/.exec(line)[1])))
  openai = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: 'good-key', maxRetries: 0 })
  anthropic = new Anthropic({ baseURL: `http://127.0.0.1:${port}`, apiKey: 'good-key', maxRetries: 0 })
})
after(() => server.kill())

const list = async (stream) => {
  const all = []
  for await (const event of stream) all.push(event)
  return all
}
// What an error has besides its class.
const fails = async (promise, Kind, status, more = {}) => {
  const error = await promise.then(() => assert.fail('it did not fail'), (e) => e)
  assert.ok(error instanceof Kind, `${error.constructor.name}: ${error.message}`)
  assert.equal(error.status, status)
  for (const [name, value] of Object.entries(more)) assert.equal(error[name], value)
  return error
}

// ---- OpenAI chat completions ----
const chat = (model, rest = {}) => openai.chat.completions.create({ model, messages, ...rest })
const streamed = { stream: true, stream_options: { include_usage: true } }
const chatText = (events) => events.map((e) => e.choices[0]?.delta.content ?? '').join('')

for (const model of ['plain', 'slow-start', 'one-by-one', 'split-frames', 'crlf', 'keepalive-comments']) {
  test(`chat, streamed: ${model}`, async () => {
    const events = await list(await chat(model, streamed))
    assert.equal(chatText(events), ALL)
    assert.equal(events.find((e) => e.choices[0]?.finish_reason).choices[0].finish_reason, 'stop')
    assert.deepEqual(events.at(-1).usage, { prompt_tokens: 11, completion_tokens: 5, total_tokens: 16 })
  })
}
test('chat, streamed: characters that are cut in two', async () => {
  assert.equal(chatText(await list(await chat('split-utf8', streamed))), 'grüß dich 🌊€')
})
test('chat, whole', async () => {
  const answer = await chat('plain', { stream: false })
  assert.equal(answer.choices[0].message.content, ALL)
  assert.equal(answer.usage.total_tokens, 16)
})
test('chat: parallel tool calls, streamed and whole', async () => {
  const want = [['call_a', 'weather', '{"city":"Ulm"}'], ['call_b', 'clock', '{}']]
  const calls = (message) => message.tool_calls.map((c) => [c.id, c.function.name, c.function.arguments])
  const final = await openai.chat.completions.stream({ model: 'tools', messages, ...streamed }).finalChatCompletion()
  assert.deepEqual(calls(final.choices[0].message), want)
  assert.equal(final.choices[0].finish_reason, 'tool_calls')
  assert.deepEqual(calls((await chat('tools', { stream: false })).choices[0].message), want)
})
test('chat: usage has cached and reasoning tokens', async () => {
  const events = await list(await chat('usage-details', streamed))
  assert.equal(events.at(-1).usage.prompt_tokens_details.cached_tokens, 64)
  assert.equal(events.at(-1).usage.completion_tokens_details.reasoning_tokens, 30)
})
test('chat: errors', async () => {
  await fails(chat('error-429'), OpenAI.RateLimitError, 429, { code: 'rate_limit_exceeded' })
  await fails(chat('error-401'), OpenAI.AuthenticationError, 401)
  await fails(chat('error-403'), OpenAI.PermissionDeniedError, 403)
  await fails(chat('error-context'), OpenAI.BadRequestError, 400, { code: 'context_length_exceeded' })
  await fails(chat('error-500'), OpenAI.InternalServerError, 500)
  await fails(chat('nobody'), OpenAI.NotFoundError, 404, { code: 'model_not_found' })
  await fails(chat('reset'), OpenAI.APIConnectionError, undefined)
  const broken = chat('stream-error', streamed).then(list)
  assert.match((await fails(broken, OpenAI.APIError, undefined)).message, /it broke/)
})

// ---- OpenAI Responses ----
const respond = (model, rest = {}) => openai.responses.create({ model, input: 'hello', ...rest })
const finalOf = (model) => openai.responses.stream({ model, input: 'hello' }).finalResponse()

for (const model of ['plain', 'one-by-one', 'split-frames', 'crlf', 'keepalive-comments']) {
  test(`responses, streamed: ${model}`, async () => {
    const events = await list(await respond(model, { stream: true }))
    assert.equal(events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join(''), ALL)
    assert.equal(events.at(-1).type, 'response.completed')
    assert.equal(events.at(-1).response.usage.output_tokens, 5)
  })
}
test('responses, whole', async () => {
  const answer = await respond('plain', { stream: false })
  assert.equal(answer.output_text, ALL)
  assert.equal(answer.status, 'completed')
})
test('responses: parallel tool calls, streamed and whole', async () => {
  const want = [['call_a', 'weather', '{"city":"Ulm"}'], ['call_b', 'clock', '{}']]
  const calls = (answer) => answer.output.map((item) => [item.call_id, item.name, item.arguments])
  assert.deepEqual(calls(await finalOf('tools')), want)
  assert.deepEqual(calls(await respond('tools', { stream: false })), want)
})
test('responses: reasoning with encrypted content', async () => {
  const answer = await respond('reasoning', { stream: false })
  assert.equal(answer.output[0].encrypted_content, 'ZW5jcnlwdGVk')
  assert.equal(answer.output_text, 'Yes.')
  const events = await list(await respond('reasoning', { stream: true }))
  assert.deepEqual(events.filter((e) => e.type === 'response.reasoning_summary_text.delta').map((e) => e.delta), ['Hm.', 'Well.'])
})
test('responses: incomplete', async () => {
  const events = await list(await respond('length', { stream: true }))
  assert.equal(events.at(-1).response.incomplete_details.reason, 'max_output_tokens')
})
test('responses: errors', async () => {
  const limited = await fails(respond('error-429'), OpenAI.RateLimitError, 429, { code: 'rate_limit_exceeded' })
  assert.equal(limited.headers.get('retry-after-ms'), '1500')
  await fails(respond('error-context'), OpenAI.BadRequestError, 400, { code: 'context_length_exceeded' })
  const failed = await list(await respond('failed', { stream: true }))
  assert.equal(failed.at(-1).response.error.code, 'server_error')
})

// ---- Anthropic Messages ----
const ask = (model, rest = {}) => anthropic.messages.create({ model, max_tokens: 100, messages, ...rest })
const messageOf = (model) => anthropic.messages.stream({ model, max_tokens: 100, messages }).finalMessage()

for (const model of ['plain', 'slow-start', 'one-by-one', 'split-frames', 'crlf', 'keepalive-comments']) {
  test(`messages, streamed: ${model}`, async () => {
    const answer = await messageOf(model)
    assert.deepEqual(answer.content.map((block) => block.text), [ALL])
    assert.equal(answer.stop_reason, 'end_turn')
    assert.deepEqual([answer.usage.input_tokens, answer.usage.output_tokens], [11, 5])
  })
}
test('messages: characters that are cut in two', async () => {
  assert.equal((await messageOf('split-utf8')).content[0].text, 'grüß dich 🌊€')
})
test('messages, whole', async () => {
  assert.equal((await ask('plain')).content[0].text, ALL)
})
test('messages: tool use, streamed and whole', async () => {
  const want = [['toolu_a', 'weather', { city: 'Ulm' }], ['toolu_b', 'clock', {}]]
  const calls = (answer) => answer.content.slice(1).map((block) => [block.id, block.name, block.input])
  for (const answer of [await messageOf('tools'), await ask('tools', { stream: false })]) {
    assert.deepEqual(calls(answer), want)
    assert.equal(answer.stop_reason, 'tool_use')
  }
})
test('messages: thinking is signed, streamed and whole', async () => {
  for (const answer of [await messageOf('thinking'), await ask('thinking', { stream: false })]) {
    assert.deepEqual(answer.content.slice(0, 2), [{ type: 'thinking', thinking: 'Hm. Well.', signature: 'c2lnbmF0dXJl' },
      { type: 'redacted_thinking', data: 'cmVkYWN0ZWQ=' }])
    assert.equal(answer.content[2].text, 'Yes.')
  }
})
test('messages: usage tells what the cache did', async () => {
  const { usage } = await messageOf('usage-details')
  assert.deepEqual([usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.output_tokens], [29, 64, 7, 20])
})
test('messages: errors', async () => {
  const limited = await fails(ask('error-429'), Anthropic.RateLimitError, 429)
  assert.equal(limited.headers.get('retry-after'), '7')
  await fails(ask('error-401'), Anthropic.AuthenticationError, 401)
  await fails(ask('error-context'), Anthropic.BadRequestError, 400)
  await fails(ask('error-529'), Anthropic.InternalServerError, 529)
  const overloaded = ask('stream-error-overloaded', { stream: true }).then(list)
  assert.match((await fails(overloaded, Anthropic.APIError, undefined)).message, /Overloaded/)
})
test('the models are listed for both', async () => {
  assert.ok((await list(openai.models.list())).some((model) => model.id === 'plain'))
  assert.ok((await list(anthropic.models.list())).some((model) => model.id === 'plain'))
})

// ---- what a script tells (POST /_script), as the tests of agents use it ----
const TOLD = [{ texts: ['Let me', ' look.'], calls: [{ name: 'weather', arguments: { city: 'Ulm' } }, { name: 'clock' }], usage: { input: 100, cached: 60, output: 20 } }]
const script = async (model) => {
  const base = String(openai.baseURL).replace(/\/v1$/, '')
  await fetch(`${base}/_script`, { method: 'POST', body: JSON.stringify({ model, turns: TOLD }) })
  return model
}
const WANT = [['call_0_0', 'weather', { city: 'Ulm' }], ['call_0_1', 'clock', {}]]

test('a script over chat completions', async () => {
  const calls = (m) => m.tool_calls.map((c) => [c.id, c.function.name, JSON.parse(c.function.arguments)])
  const final = await openai.chat.completions.stream({ model: await script('told-a'), messages, ...streamed }).finalChatCompletion()
  assert.deepEqual(calls(final.choices[0].message), WANT)
  assert.equal(final.choices[0].message.content, 'Let me look.')
  const whole = await chat(await script('told-b'), { stream: false })
  assert.deepEqual(calls(whole.choices[0].message), WANT)
  assert.equal(whole.usage.prompt_tokens_details.cached_tokens, 60)
})
test('a script over Responses', async () => {
  const calls = (r) => r.output.filter((item) => item.type === 'function_call').map((c) => [c.call_id, c.name, JSON.parse(c.arguments)])
  const final = await openai.responses.stream({ model: await script('told-c'), input: 'hello' }).finalResponse()
  assert.deepEqual(calls(final), WANT)
  assert.equal(final.output_text, 'Let me look.')
  const whole = await openai.responses.create({ model: await script('told-d'), input: 'hello', stream: false })
  assert.deepEqual(calls(whole), WANT)
  assert.equal(whole.usage.input_tokens_details.cached_tokens, 60)
})
test('a script over Messages', async () => {
  const calls = (m) => m.content.filter((block) => block.type === 'tool_use').map((c) => [c.id, c.name, c.input])
  const request = { max_tokens: 100, messages }
  const final = await anthropic.messages.stream({ model: await script('told-e'), ...request }).finalMessage()
  assert.deepEqual(calls(final), WANT)
  assert.equal(final.content[0].text, 'Let me look.')
  const whole = await anthropic.messages.create({ model: await script('told-f'), stream: false, ...request })
  assert.deepEqual(calls(whole), WANT)
  assert.equal(whole.usage.cache_read_input_tokens, 60)
  assert.equal(whole.usage.input_tokens, 40)
})
