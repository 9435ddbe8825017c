// SPDX-License-Identifier: Apache-2.0
// orders.mjs - the service behind the tool order_status: what an HTTP tool gets and gives. Run with: node examples/agents/orders.mjs
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const secret = process.env.ORDERS_SECRET ?? ''
const port = Number(process.env.ORDERS_PORT ?? 7171)

// The signature is over the time, a dot, and the bytes of the body.
const signed = (req, body) => {
  const time = req.headers['perdure-timestamp'] ?? ''
  const want = Buffer.from(`v1=${createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')}`)
  const have = Buffer.from(req.headers['perdure-signature'] ?? '')
  return secret !== '' && have.length === want.length && timingSafeEqual(have, want) && Math.abs(Date.now() / 1000 - Number(time)) < 300
}

const server = createServer(async (req, res) => {
  let body = ''
  for await (const piece of req) body += piece
  const answer = (status, value) => {
    res.writeHead(status, { 'Content-Type': 'application/json' })
    res.end(JSON.stringify(value))
  }
  if (!signed(req, body)) return answer(401, { error: { message: 'the signature is wrong' } })
  const { order } = JSON.parse(body).arguments
  // The same key comes again when the server died before it had our answer; for a lookup that changes nothing.
  console.log(`order ${order}, idempotency key ${req.headers['idempotency-key']}`)
  return order === 17 ? answer(200, { order, status: 'shipped', arrives: 'tomorrow' }) : answer(404, { error: { message: `there is no order ${order}` } })
})
server.listen(port, '127.0.0.1', () => console.log(`orders on http://127.0.0.1:${server.address().port}`))
