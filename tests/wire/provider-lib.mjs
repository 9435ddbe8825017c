// SPDX-License-Identifier: Apache-2.0
// provider-lib.mjs - what the protocols of provider-server.mjs share.
export const DONE = 'data: [DONE]\n\n'
export const WORDS = ['One', ' two', ' three', ' four', ' five']
export const event = (data, name) => (name ? `event: ${name}\n` : '') + 'data: ' + JSON.stringify(data) + '\n\n'
export const stream = (res, headers = {}) => {
  res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache', ...headers })
}
export const json = (res, status, body, headers = {}) => {
  res.writeHead(status, { 'content-type': 'application/json', ...headers })
  res.end(JSON.stringify(body))
}
export const soon = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms))
// Each piece leaves in a packet of its own.
export const drip = async (res, bytes, size) => {
  for (let at = 0; at < bytes.length && !res.destroyed; at += size) {
    res.write(bytes.subarray(at, at + size))
    await soon(1)
  }
}
