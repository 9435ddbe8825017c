// SPDX-License-Identifier: Apache-2.0
// Holds answers against the OpenAPI document that the server serves. In the test files of this folder and of tests/workflow every answer
// that lib/client.mjs sees has to be described: method and path, status, content type, and the body by its schema. (Others use the client as it is.)
// A request that was accepted has to fit its own schema, too. Objects are looked at more strictly than the document asks of clients:
// a member that is not described is an error.
import assert from 'node:assert/strict';

export const checking = /\/tests\/(conformance|workflow)\/[^/]+\.test\.mjs$/.test(process.argv[1] ?? '');
const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete', 'options'];
// Refused before anybody looked for a route.
const BEFORE_ROUTING = new Set([400, 408, 413, 414, 431, 503]);

let loaded; // { document, routes, schema(pointer, strict) }
let seen = 0;
export const answersChecked = () => seen;

// "#/components/schemas/Run" -> the same, in the strict or in the open half.
const half = (pointer, strict) => pointer.replace(/^#\/components\/schemas\//, strict ? '#/$defs/strict.' : '#/$defs/open.');

// A copy with its references turned to the halves; strict: closed objects, but for the branches of allOf, which are closed as a whole.
function prepared(schema, strict, closed = strict) {
    if (Array.isArray(schema)) return schema.map((one) => prepared(one, strict));
    if (typeof schema !== 'object' || schema === null) return schema;
    const copy = {};
    for (const [name, value] of Object.entries(schema)) {
        if (name === '$ref') copy.$ref = half(value, closed);
        else if (name === 'properties') copy.properties = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, prepared(v, strict)]));
        else if (name === 'allOf') copy.allOf = value.map((one) => prepared(one, strict, false));
        else if (['items', 'anyOf', 'oneOf'].includes(name)) copy[name] = prepared(value, strict);
        else copy[name] = value;
    }
    if (closed && (copy.properties || copy.allOf) && !('additionalProperties' in copy)) copy.unevaluatedProperties = false;
    return copy;
}

function routesOf(document) {
    return Object.entries(document.paths).map(([template, item]) => {
        const rest = template.endsWith('{name}'); // the name of a stream goes to the end
        const pattern = template.replace(/[.]/g, '\\.').replace(/\{name\}$/, '.+').replace(/\{[^}]+\}/g, '[^/]+');
        const parameters = (template.match(/\{/g) ?? []).length;
        return { template, item, order: parameters + (rest ? 100 : 0), pattern: new RegExp(`^${pattern}$`) };
    }).sort((a, b) => a.order - b.order); // static segments first
}

// Once per process: all servers are the same program.
export async function load(base) {
    if (!checking || loaded) return;
    const { default: Ajv } = await import('ajv/dist/2020.js').catch((error) => {
        throw new Error(`run \`npm ci\` in tests/conformance first (./dev test conformance does): ${error.message}`);
    });
    const response = await fetch(`${base}/openapi.json`);
    assert.equal(response.status, 200);
    loaded = build(await response.json(), Ajv);
}

export function build(document, Ajv) {
    const ajv = new Ajv({ strict: false, allErrors: false });
    const $defs = {};
    for (const [name, schema] of Object.entries(document.components.schemas)) {
        $defs[`strict.${name}`] = prepared(schema, true);
        $defs[`open.${name}`] = prepared(schema, false);
    }
    ajv.addSchema({ $id: 'http://openapi/', $defs });
    const compiled = new Map();
    const validate = (schema, strict, value) => {
        const key = JSON.stringify([strict, schema]);
        if (!compiled.has(key)) {
            const ready = JSON.parse(JSON.stringify(prepared(schema, strict)).replaceAll('"#/$defs/', '"http://openapi/#/$defs/'));
            compiled.set(key, ajv.compile(ready));
        }
        const fits = compiled.get(key);
        return fits(value) ? null : `${ajv.errorsText(fits.errors)} ${JSON.stringify(fits.errors[0].params)}`;
    };
    const deref = (v) => (v?.$ref ? v.$ref.slice(2).split('/').reduce((at, key) => at[key], document) : v);
    return { document, routes: routesOf(document), validate, deref };
}

function decoded(path) {
    try { return decodeURIComponent(path); } catch { return path; }
}

// What does not fit, or null. answer: { method, target, status, headers, text, json, sent } with `sent` the JSON of the request.
export function complaint(book, { method, target, status, headers, text, json, sent }) {
    const path = decoded(target.split(/[?#]/)[0]);
    const verb = method.toLowerCase();
    const route = book.routes.find((r) => r.pattern.test(path));
    const error = { $ref: `#/components/schemas/${path.startsWith('/api/v1/') ? 'FlowError' : 'Error'}` };
    const isError = () => (verb === 'head' ? null : json === undefined ? `no JSON: ${text?.slice(0, 200)}` : book.validate(error, true, json));
    if (!route) return status === 404 || BEFORE_ROUTING.has(status) ? isError() : `${path} is not described, and ${status}`;
    const operation = METHODS.includes(verb) ? route.item[verb] : undefined;
    if (!operation) {
        if (verb === 'options' && status === 204) return null; // CORS, of every path
        return status === 405 || status === 501 || BEFORE_ROUTING.has(status) ? isError() : `${method} ${route.template} is not described, and ${status}`;
    }
    const described = book.deref(operation.responses[status]);
    if (!described) {
        // A path whose parameter is no text at all names nothing.
        if (BEFORE_ROUTING.has(status) || (status === 404 && path.includes('%'))) return isError();
        return `status ${status} is not described`;
    }
    if (verb === 'head' || status === 304) return null;
    const content = described.content;
    if (!content) return text === undefined || text === '' ? null : `a body where none is described: ${text.slice(0, 200)}`;
    const type = (headers.get('content-type') ?? '').split(';')[0].trim();
    const media = content[type] ?? content['*/*'];
    if (!media) return `content type ${type} is not described`;
    if (media.schema && /json$/.test(type)) {
        if (json === undefined) return `no JSON: ${text.slice(0, 200)}`;
        const wrong = book.validate(media.schema, true, json);
        if (wrong) return wrong;
    }
    const body = operation.requestBody?.content?.['application/json']?.schema;
    if (status < 300 && sent !== undefined && body) {
        const wrong = book.validate(body, false, sent);
        if (wrong) return `the request that was accepted: ${wrong}`;
    }
    return null;
}

// Throws when an answer is not as described. `text` undefined: the body is not to be looked at (a stream that goes on).
export function checkAnswer(answer) {
    if (!checking || !loaded) return answer;
    seen++;
    const wrong = complaint(loaded, answer);
    if (wrong) throw new assert.AssertionError({ message: `not as openapi.json says: ${answer.method} ${answer.target} ${answer.status}: ${wrong}\n${(answer.text ?? '').slice(0, 1500)}` });
    return answer;
}

const FRAMES = { run_event: 'RunEvent', heartbeat: 'StreamHeartbeat', close: 'StreamClose', error: 'StreamError' };

// A frame of an event stream, parsed.
export function checkFrame({ event, data }) {
    if (!checking || !loaded) return;
    seen++;
    const name = FRAMES[event];
    const wrong = name ? loaded.validate({ $ref: `#/components/schemas/${name}` }, true, data) : `an event ${event}`;
    if (wrong) throw new assert.AssertionError({ message: `not as openapi.json says: ${event} ${JSON.stringify(data).slice(0, 800)}: ${wrong}` });
}
