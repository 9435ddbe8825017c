// SPDX-License-Identifier: Apache-2.0
// The table of docs/reference/conformance-cases.md against the tests themselves: every case of the contract has a row whose test is named
// by it, and every row names a test that is there. Needs no server.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const tests = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const page = path.join(tests, '..', 'docs', 'reference', 'conformance-cases.md');
// How many cases of each letter section 10 of the contract has.
const CASES = { A: 16, C: 18, G: 9, W: 7, B: 6, X: 8, H: 6, Y: 4, P: 10, S: 19, K: 9, F: 6, I: 3, O: 5, D: 5 };

const rows = [...readFileSync(page, 'utf8').matchAll(/^\| ([A-Z]\d+) \| (\S+) \| `?(.*?)`? \|$/gm)]
    .map(([, id, file, name]) => ({ id, file, name }));

// The names of a file's tests as its source writes them, and what C calls its tests.
function namesIn(file) {
    const source = readFileSync(path.join(tests, file), 'utf8');
    const found = file.endsWith('.c') ? source.matchAll(/cmocka_unit_test\(()(\w+)\)/g) : source.matchAll(/^\s*\w+\((['`])(.*?)\1, /gm);
    return new Set([...found].map((match) => match[2]));
}

// Whether a name begins with ids of cases and the case is among them: `S2 S3 the cursor rule`, `F1-F6 filters`, `A4b another side of A4`.
function namesCase(name, id) {
    const [, letter, number] = /^([A-Z])(\d+)$/.exec(id);
    const words = name.split(' ');
    const end = words.findIndex((word) => !/^[A-Z]\d+[a-z]?(-[A-Z]\d+)?$/.test(word));
    return words.slice(0, end < 0 ? words.length : end).some((word) => {
        const [first, last] = word.split('-').map((part) => [part[0], parseInt(part.slice(1), 10)]);
        return first[0] === letter && first[1] <= Number(number) && Number(number) <= (last ?? first)[1];
    });
}

test('every case of the contract has a row', () => {
    const wanted = Object.entries(CASES).flatMap(([letter, count]) => Array.from({ length: count }, (_, i) => `${letter}${i + 1}`));
    const there = new Set(rows.map((row) => row.id));
    assert.deepEqual(wanted.filter((id) => !there.has(id)), [], 'cases without a row');
    assert.deepEqual([...there].filter((id) => !wanted.includes(id)), [], 'rows of cases that the contract does not have');
});

test('every case has a conformance test that is named by it', () => {
    const over = new Set(rows.filter((row) => row.file.startsWith('conformance/') && namesCase(row.name, row.id)).map((row) => row.id));
    assert.deepEqual([...new Set(rows.map((row) => row.id))].filter((id) => !over.has(id)), []);
});

test('every row names a test that is there', () => {
    const names = new Map([...new Set(rows.map((row) => row.file))].map((file) => [file, namesIn(file)]));
    assert.deepEqual(rows.filter((row) => !names.get(row.file).has(row.name)).map((row) => `${row.id}: ${row.file} has no '${row.name}'`), []);
});

// A rule that cannot fail is none.
test('a name is matched by its ids and not by what else it says', () => {
    assert.ok(namesCase('F1-F6 filters', 'F4') && namesCase('S2 S3 the cursor rule', 'S3') && namesCase('A4b more', 'A4'));
    assert.ok(!namesCase('K4 strict; O5 too', 'O5') && !namesCase('A11 an array', 'A1') && !namesCase('F1-F6 filters', 'F7'));
});
