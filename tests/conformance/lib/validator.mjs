// SPDX-License-Identifier: Apache-2.0
// JSON schemas of draft 7, as the workflow surface publishes them. Here because ajv is installed for this folder.
import Ajv from 'ajv';

const formats = {
    uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
    'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
};

// A function that gives null for what fits, else what is wrong.
export function validator(schema) {
    const ajv = new Ajv({ strict: false, formats });
    const fits = ajv.compile(schema);
    return (value) => (fits(value) ? null : ajv.errorsText(fits.errors));
}
