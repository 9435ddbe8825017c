// SPDX-License-Identifier: Apache-2.0
// worker.mjs PORT - a step in another process: a server of chat completions that answers at once.
import http from 'node:http';

const text = JSON.stringify({
    id: 'x', object: 'chat.completion', model: 'worker',
    choices: [{ index: 0, message: { role: 'assistant', content: '{"value":1}' }, finish_reason: 'stop' }],
    usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
});
http.createServer((req, res) => {
    req.resume();
    req.on('end', () => {
        res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': text.length });
        res.end(text);
    });
}).listen(Number(process.argv[2]), '127.0.0.1');
