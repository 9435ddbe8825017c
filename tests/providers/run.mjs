// SPDX-License-Identifier: Apache-2.0
// node tests/providers/run.mjs: runs clients.suite.mjs and prints the failures, and last "N passed, N failed, N skipped".
// The packages of package-lock.json must be there (npm ci in this folder).
import { run } from 'node:test'
import { fileURLToPath } from 'node:url'

const total = { passed: 0, failed: 0, skipped: 0 }
const stream = run({ files: [fileURLToPath(new URL('clients.suite.mjs', import.meta.url))], concurrency: 1, timeout: 120000 })
stream.on('test:pass', (data) => { total[data.skip === undefined ? 'passed' : 'skipped']++ })
stream.on('test:fail', (data) => {
  total.failed++
  console.log(`FAIL  ${data.name}\n${data.details.error?.cause?.stack ?? data.details.error}`)
})
stream.on('test:stderr', (data) => process.stdout.write(data.message))
stream.on('end', () => {
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  process.exitCode = total.failed || !total.passed ? 1 : 0
})
stream.resume()
