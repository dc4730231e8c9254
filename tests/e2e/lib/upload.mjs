// A process of its own that uploads `size` bytes, made piece by piece: `node upload.mjs PORT SIZE`.
// Tells on standard output, as lines of JSON: {"digest"} once it is reckoned, then, after a line on
// standard input, {"status","seconds"} of the upload.
import crypto from "node:crypto";
import http from "node:http";
import { once } from "node:events";
import { Readable } from "node:stream";

const [port, size] = process.argv.slice(2).map(Number);

// Pieces of 1 MiB that differ.
function* bytes() {
  const piece = crypto.createHash("shake256", { outputLength: 1 << 20 }).update("load").digest();
  for (let at = 0; at < size; at += piece.length) {
    piece.writeUInt32LE(at / piece.length, 0);
    yield Buffer.from(piece.subarray(0, Math.min(piece.length, size - at)));
  }
}

const tell = (o) => process.stdout.write(JSON.stringify(o) + "\n");
const hash = crypto.createHash("sha256");
for (const piece of bytes()) hash.update(piece);
const digest = hash.digest("hex");
tell({ digest });
await once(process.stdin, "data");
process.stdin.pause();
const from = performance.now();
const req = http.request({ host: "127.0.0.1", port, method: "PUT", path: `/v1/blobs/sha256:${digest}`, headers: { "Content-Length": size } });
Readable.from(bytes()).pipe(req);
const [res] = await once(req, "response");
res.resume();
await once(res, "end");
tell({ status: res.statusCode, seconds: (performance.now() - from) / 1000 });
