// A plain HTTP client over node:http. Every whole response is held against the OpenAPI document.
import http from "node:http";
import { check, eventPointer, ndjson, sse, validate } from "./spec.mjs";

function open(port, { method = "GET", path, headers = {}, body }) {
  return new Promise((resolve, reject) => {
    const req = http.request({ host: "127.0.0.1", port, method, path, headers, agent: false }, (res) => resolve({ req, res }));
    req.on("error", reject);
    if (body?.pipe) body.on("error", reject).pipe(req);
    else req.end(body);
  });
}

async function collect(res) {
  const parts = [];
  for await (const part of res) parts.push(part);
  return Buffer.concat(parts);
}

// {status, headers, body, json}; json only when the body is some JSON.
export async function request(port, options) {
  const { res } = await open(port, options);
  const answer = { method: options.method ?? "GET", path: options.path, status: res.statusCode, headers: res.headers, body: await collect(res) };
  check(answer);
  if (/^application\/(problem\+)?json/.test(answer.headers["content-type"] ?? "") && answer.status !== 206 && answer.body.length) answer.json = JSON.parse(answer.body.toString());
  return answer;
}

// Reads an event stream until `enough(rows)` or its end, then cuts the connection. Returns the rows;
// `ended`: the server ended it.
export async function readEvents(port, path, { accept = "application/x-ndjson", lastEventId, enough, opened } = {}) {
  const headers = { Accept: accept, ...(lastEventId === undefined ? {} : { "Last-Event-ID": String(lastEventId) }) };
  const { req, res } = await open(port, { path, headers });
  if (res.statusCode !== 200) throw new Error(`${path}: ${res.statusCode} ${await collect(res)}`);
  opened?.();
  let text = "";
  res.setEncoding("utf8");
  const parse = () => {
    if (accept === "text/event-stream") return sse(text.slice(0, text.lastIndexOf("\n\n") + 2)).map((e) => ({ ...JSON.parse(e.data), id: e.id }));
    return ndjson(text.slice(0, text.lastIndexOf("\n") + 1));
  };
  try {
    for await (const part of res) {
      text += part;
      if (enough?.(parse())) {
        req.destroy();
        return { rows: finish(parse()), ended: false, headers: res.headers };
      }
    }
  } catch (error) {
    if (error.code !== "ECONNRESET" && error.message !== "aborted") throw error;
    return { rows: finish(parse()), ended: false, cut: true, headers: res.headers };
  }
  return { rows: finish(parse()), ended: true, headers: res.headers };
}

function finish(rows) {
  return rows.map(({ id, ...row }) => {
    validate(eventPointer, row, `event ${row.seq}`);
    if (id !== undefined && id !== String(row.seq)) throw new Error(`id ${id} is not seq ${row.seq}`);
    return row;
  });
}
