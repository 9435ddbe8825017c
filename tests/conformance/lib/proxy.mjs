// SPDX-License-Identifier: Apache-2.0
// A TCP proxy that cuts connections after a random number of bytes from the server. Seeded, so that a failure can be
// tried again; the cut falls anywhere: in the head, in a chunk size, in the middle of a frame.
import net from 'node:net';

// mulberry32: small, and good enough to choose byte positions.
export function randomFrom(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = Math.imul(state ^ (state >>> 15), state | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

// A connection lives for min..max bytes of answer; then it is cut: by a reset, or by a plain FIN (half of each).
export async function startCuttingProxy({ port, seed, minBytes = 1, maxBytes = 4000, maxCuts = Infinity }) {
    const random = randomFrom(seed);
    const stats = { cuts: 0, connections: 0, bytes: 0 };
    const sockets = new Set();
    const server = net.createServer((client) => {
        stats.connections++;
        const upstream = net.connect(port, '127.0.0.1');
        sockets.add(client).add(upstream);
        let left = stats.cuts < maxCuts ? minBytes + Math.floor(random() * (maxBytes - minBytes)) : Infinity;
        const polite = random() < 0.5;
        const end = () => {
            client.destroy();
            upstream.destroy();
            sockets.delete(client);
            sockets.delete(upstream);
        };
        client.on('error', end).on('close', end);
        upstream.on('error', end).on('close', () => { client.end(); sockets.delete(upstream); });
        client.on('data', (part) => upstream.write(part));
        upstream.on('data', (part) => {
            const piece = part.subarray(0, Math.min(left, part.length));
            left -= piece.length;
            stats.bytes += piece.length;
            client.write(piece);
            if (left <= 0) {
                stats.cuts++;
                upstream.destroy();
                if (polite) client.end();
                else client.resetAndDestroy();
            }
        });
    });
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    return {
        url: `http://127.0.0.1:${server.address().port}`,
        stats,
        async close() {
            for (const socket of sockets) socket.destroy();
            await new Promise((resolve) => { server.close(resolve); });
        },
    };
}
