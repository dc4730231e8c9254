// The OpenAPI document as an oracle: every response of every test goes through check(). Response
// schemas are closed (a field that the document does not name is an error), so the document cannot
// fall behind what the service says.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import Ajv2020 from "ajv/dist/2020.js";
import { build } from "./paths.mjs";

const document = JSON.parse(fs.readFileSync(path.join(build, "gen/openapi.json"), "utf8"));

function close(node) {
  if (Array.isArray(node)) return node.forEach(close);
  if (node === null || typeof node !== "object") return;
  if (node.type === "object" && node.properties && !("additionalProperties" in node)) node.additionalProperties = false;
  Object.values(node).forEach(close);
}
close(document.components);

const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema({ $id: "ptqd", ...document });

// "#/components/…" inside a response becomes a reference into the whole document.
const validators = new Map();
function validator(pointer) {
  if (!validators.has(pointer)) validators.set(pointer, ajv.compile({ $ref: `ptqd#${pointer}` }));
  return validators.get(pointer);
}
const escape = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");

function resolve(node, pointer) {
  while (node?.$ref) {
    pointer = node.$ref.slice(1);
    node = pointer.split("/").slice(1).reduce((o, k) => o[k.replaceAll("~1", "/").replaceAll("~0", "~")], document);
  }
  return [node, pointer];
}

const patterns = Object.keys(document.paths).map((template) => ({
  template,
  // A parameter takes no colon: "/v1/jobs/{id}:cancel" is not "/v1/jobs/{id}".
  regex: new RegExp("^" + template.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{digest\}/g, "[^/]+").replace(/\{[a-z]+\}/g, "[^/:]+") + "$"),
}));

export function findOperation(method, target) {
  const pathname = target.split("?")[0];
  const found = patterns.find((p) => p.regex.test(pathname));
  if (!found) return null;
  const item = document.paths[found.template];
  const verb = method.toLowerCase();
  const key = item[verb] ? verb : verb === "head" && item.get ? "get" : null;
  if (!key) return null;
  return { operation: item[key], pointer: `/paths/${escape(found.template)}/${key}`, template: found.template };
}

function responseOf(found, status) {
  const responses = found.operation.responses;
  const key = [String(status), `${String(status)[0]}XX`, "default"].find((k) => k in responses);
  assert.ok(key, `${found.operation.operationId} does not say status ${status}`);
  return resolve(responses[key], `${found.pointer}/responses/${key}`);
}

export function validate(pointer, value, what) {
  const check = validator(pointer);
  if (check(value)) return;
  const errors = check.errors.slice(0, 6).map((e) => `${e.instancePath || "/"} ${e.message} ${JSON.stringify(e.params)}`);
  assert.fail(`${what} breaks the OpenAPI document:\n  ${errors.join("\n  ")}\n  ${JSON.stringify(value).slice(0, 1500)}`);
}

function checkHeaders(response, pointer, headers, what) {
  for (const [name, ref] of Object.entries(response.headers ?? {})) {
    const value = headers[name.toLowerCase()];
    const optional = ["idempotent-replayed", "retry-after", "cache-control", "content-range"].includes(name.toLowerCase());
    if (value === undefined && optional) continue;
    assert.notEqual(value, undefined, `${what} has no header ${name}`);
    const [header, at] = resolve(ref, `${pointer}/headers/${escape(name)}`);
    const [schema, schemaAt] = resolve(header.schema, `${at}/schema`);
    validate(schemaAt, schema.type === "integer" ? Number(value) : value, `${what}, header ${name}`);
  }
}

export function ndjson(text) {
  assert.ok(text === "" || text.endsWith("\n"), "the last line of a stream is torn");
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

// [{id, event, data}] of the complete events of a text/event-stream.
export function sse(text) {
  return text.split("\n\n").slice(0, -1).filter((block) => block.split("\n").some((l) => !l.startsWith(":") && l !== "" && !l.startsWith("retry:"))).map((block) => {
    const fields = {};
    for (const line of block.split("\n")) {
      if (line.startsWith(":")) continue;
      const colon = line.indexOf(":");
      fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
    }
    return fields;
  });
}

export function checkSse(text, pointer, what) {
  for (const e of sse(text)) {
    const row = JSON.parse(e.data);
    validate(pointer, row, what);
    assert.equal(e.id, String(row.seq), `${what}: id and seq differ`);
    assert.equal(e.event, row.type, `${what}: event and type differ`);
  }
}

function checkBody(response, pointer, res, what) {
  const type = (res.headers["content-type"] ?? "").split(";")[0].trim();
  const content = response.content ?? {};
  if (Object.keys(content).length === 0) return assert.equal(res.body.length, 0, `${what} has a body, the document says none`);
  const key = content[type] ? type : content["*/*"] ? "*/*" : null;
  assert.ok(key, `${what} has the media type "${type}", the document says ${Object.keys(content)}`);
  const [, at] = resolve(content[key].schema, `${pointer}/content/${escape(key)}/schema`);
  if (key === "application/x-ndjson") for (const row of ndjson(res.body.toString())) validate(at, row, what);
  else if (key === "text/event-stream") checkSse(res.body.toString(), at, what);
  else if (key.endsWith("json")) validate(at, JSON.parse(res.body.toString()), what);
}

// res: {method, path, status, headers, body}. A response to what the document does not know (a path
// or a method that there is none of) must be a problem.
export function check(res) {
  const what = `${res.method} ${res.path} → ${res.status}`;
  const found = findOperation(res.method, res.path);
  if (!found || res.status === 405) {
    assert.ok(res.status >= 400 && res.status < 500, `${what}: not in the document`);
    if (res.method !== "HEAD") validate("/components/schemas/Problem", JSON.parse(res.body.toString()), what);
    return;
  }
  const [response, pointer] = responseOf(found, res.status);
  checkHeaders(response, pointer, res.headers, what);
  if (res.method !== "HEAD") checkBody(response, pointer, res, what);
  if (res.status >= 400 && res.method !== "HEAD") {
    const problem = JSON.parse(res.body.toString());
    assert.equal(problem.status, res.status, `${what}: the problem's status`);
    assert.equal(problem.instance, res.path.split("?")[0], `${what}: the problem's instance`);
  }
}

export const eventPointer = "/components/schemas/Event";
