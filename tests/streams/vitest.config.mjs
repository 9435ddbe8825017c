// SPDX-License-Identifier: Apache-2.0
export default { test: { include: ['conformance.suite.mjs'], watch: false } };
