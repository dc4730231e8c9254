// Wrong input: a 4xx that names the place, and nothing left behind.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import zlib from "node:zlib";
import { demo } from "./lib/paths.mjs";
import { digit, digits, floats, matmulModel, npy, onnx, tar, zip } from "./lib/files.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 120000 };
const digest = (data) => `sha256:${crypto.createHash("sha256").update(data).digest("hex")}`;
let server, ids, files;
before(async () => {
  server = await Server.start(["--blob-grace", "10"]);
  ids = await server.uploadDemo();
  files = (await server.leftovers()).blobs;
});
after(() => server.stop());

// Blobs that nothing refers to may stay for the grace, no longer.
async function collected(expected) {
  for (const from = Date.now(); ; await delay(200)) {
    const { blobs, tmp } = await server.leftovers();
    if (blobs === expected && !tmp) return;
    assert.ok(Date.now() - from < 60000, `${blobs} blobs and ${tmp} temporary files, not ${expected} and 0`);
  }
}

// The request is refused as the options say, and leaves nothing.
async function refused(method, path, body, { status, type, at, detail, headers } = {}) {
  const before = await server.leftovers();
  const answer = await server.request(method, path, body, headers);
  const said = answer.body.toString().slice(0, 500);
  assert.ok(status ? answer.status === status : answer.status >= 400 && answer.status < 500, `${answer.status} ${said}`);
  assert.match(answer.headers["content-type"], /^application\/problem\+json/);
  if (type) assert.equal(answer.json.type, `/problems/${type}`, said);
  if (at) assert.match(answer.json.at ?? "", at, said);
  assert.match(answer.json.detail, detail ?? /.{8}/, said);
  const now = await server.leftovers();
  assert.deepEqual({ ...now, blobs: 0 }, { ...before, blobs: 0 }, `left behind after ${said}`);
  if (now.blobs > before.blobs) await collected(before.blobs);
  return answer.json;
}

test("a model cut anywhere is refused", options, async () => {
  const file = fs.readFileSync(demo("digits.onnx"));
  const cuts = [1, 2, 3, 7, 20, 64, 200, 1000, 4096, 10000, 30000, 50000, file.length - 3000, file.length - 200, file.length - 100, file.length - 30];
  for (const cut of cuts) await refused("PUT", "/v1/models", file.subarray(0, cut), { status: 422 });
});

test("a small model cut at every byte is refused or whole", options, async () => {
  const file = matmulModel(2);
  const before = await server.leftovers();
  let kept = 0;
  for (let cut = 1; cut < file.length; cut++) {
    const answer = await server.request("PUT", "/v1/models", file.subarray(0, cut));
    assert.ok(answer.status === 422 || answer.status === 201, `cut at ${cut}: ${answer.status}`);
    if (answer.status === 201) {
      kept++;
      await server.expect(204, "DELETE", `/v1/models/${answer.json.id}`);
    }
  }
  assert.ok(kept <= 1, "at most the version behind the graph may be missing");
  const { models, tmp } = await server.leftovers();
  assert.deepEqual({ models, tmp }, { models: before.models, tmp: before.tmp });
});

test("what is not a model is refused", options, async () => {
  await refused("PUT", "/v1/models", Buffer.alloc(0), {});
  await refused("PUT", "/v1/models", Buffer.from("not a model"), { status: 422, type: "bad-model" });
  await refused("PUT", "/v1/models", crypto.createHash("sha512").update("x").digest(), { status: 422 });
  await refused("PUT", "/v1/models", fs.readFileSync(demo("digits.tar.gz")), { status: 422 });
});

test("a model that cannot be run is refused, with the node or tensor named", options, async () => {
  const io = { inputs: [{ name: "x", shape: [1, 4] }], outputs: [{ name: "y", shape: [1, 4] }] };
  const one = (node, more = {}) => onnx({ ...io, ...more, nodes: [{ name: "here", inputs: ["x"], outputs: ["y"], ...node }] });
  await refused("PUT", "/v1/models", one({ op: "Frobnicate" }), { status: 422, type: "unsupported", detail: /Frobnicate.*here/ });
  await refused("PUT", "/v1/models", one({ op: "Relu", inputs: ["nowhere"] }), { status: 422, at: /here|nowhere/ });
  await refused("PUT", "/v1/models", one({ op: "Relu", domain: "com.example" }), { status: 422, at: /here/, detail: /com\.example/ });
  await refused("PUT", "/v1/models", onnx({ ...io, nodes: [] }), { status: 422 });
  const short = onnx({ ...io, nodes: [{ op: "MatMul", name: "here", inputs: ["x", "w"], outputs: ["y"] }], tensors: [{ name: "w", shape: [4, 4], data: floats(15) }] });
  await refused("PUT", "/v1/models", short, { status: 422, type: "bad-model", at: /w/ });
  const huge = onnx({ ...io, nodes: [{ op: "MatMul", name: "here", inputs: ["x", "w"], outputs: ["y"] }], tensors: [{ name: "w", shape: [1e9, 1e9, 1e9], data: floats(4) }] });
  await refused("PUT", "/v1/models", huge, { status: 422, at: /w/ });
  const cycle = onnx({ ...io, nodes: [{ op: "Relu", name: "a", inputs: ["q"], outputs: ["y"] }, { op: "Relu", name: "b", inputs: ["y"], outputs: ["q"] }] });
  await refused("PUT", "/v1/models", cycle, { status: 422 });
});

test("external data may not leave the model", options, async () => {
  const weights = floats(64);
  await server.expect(201, "PUT", `/v1/blobs/${digest(weights)}`, weights);
  for (const location of ["../weights.bin", "/etc/passwd", "a/../../b", "..", ""]) {
    const file = matmulModel(8, { external: { location, offset: 0, length: 256 } });
    const put = await server.request("PUT", `/v1/blobs/${digest(file)}`, file);
    assert.equal(put.status, 201);
    const body = JSON.stringify({ blob: digest(file), external_data: [{ location, blob: digest(weights) }] });
    await refused("POST", "/v1/models", body, { status: 422, headers: { "Content-Type": "application/json" } });
  }
  const beyond = matmulModel(8, { external: { location: "w", offset: 64, length: 256 } });
  await server.expect(201, "PUT", `/v1/blobs/${digest(beyond)}`, beyond);
  await refused("POST", "/v1/models", JSON.stringify({ blob: digest(beyond), external_data: [{ location: "w", blob: digest(weights) }] }), { status: 422, headers: { "Content-Type": "application/json" } });
  await refused("PUT", "/v1/models", matmulModel(8, { external: { location: "w", offset: 0, length: 256 } }), { status: 422 });
});

test("archives that lie, climb or explode are refused", options, async () => {
  const good = ["image/0.npy", digit(0)];
  const bad = {
    "a path that climbs": tar([good, ["../../etc/x.npy", digit(1)]]),
    "an absolute path": tar([good, ["/tmp/x.npy", digit(1)]]),
    "a symbolic link": tar([good, ["image/1.npy", Buffer.alloc(0), "2", "/etc/passwd"]]),
    "a hard link": tar([good, ["image/1.npy", Buffer.alloc(0), "1", "image/0.npy"]]),
    "a device": tar([good, ["image/1.npy", Buffer.alloc(0), "3"]]),
    "a fifo": tar([good, ["image/1.npy", Buffer.alloc(0), "6"]]),
    "a path of three levels": tar([["a/b/c/d/0.npy", digit(0)]]),
    "a cut archive": zlib.gzipSync(digits(4)).subarray(0, 200),
    "a cut tar": digits(4).subarray(0, 3000),
    "a zip with a wrong checksum": zip([good], { crc: () => 1 }),
    "an archive in the archive": tar([["image/0.npy", zip([good])]]),
    "text instead of npy": tar([["image/0.npy", Buffer.from("hello")]]),
    "an empty archive": tar([]),
    "inputs with different counts": tar([["a/0.npy", digit(0)], ["a/1.npy", digit(1)], ["b/0.npy", digit(0)]]),
    "a zip bomb": zip([["image/0.npy", npy([1, 64 << 20], Buffer.alloc(256 << 20))]]),
    "nothing": Buffer.alloc(0),
  };
  for (const [what, body] of Object.entries(bad)) {
    await test(what, options, () => refused("PUT", "/v1/datasets", body, {}));
  }
});

test("npy files that are no plain arrays are refused", options, async () => {
  const bad = {
    "objects (pickles)": npy([1], Buffer.alloc(8), { descr: "|O" }),
    "big-endian numbers": npy([1, 4], floats(4), { descr: ">f4" }),
    "Fortran order": npy([2, 2], floats(4), { header: "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }" }),
    "too few bytes": npy([1, 100], floats(4)),
    "too many bytes": npy([1, 2], floats(4)),
    "a shape that overflows": npy([1, 1], floats(1), { header: "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4), }" }),
    "a header that is code": npy([1], floats(1), { header: "__import__('os').system('true')" }),
    "an unknown key": npy([1], floats(1), { header: "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1, }" }),
  };
  for (const [what, file] of Object.entries(bad)) {
    await test(what, options, () => refused("PUT", "/v1/datasets", tar([["image/0.npy", file]]), { status: 422, type: "bad-data", at: /image/ }));
  }
});

test("data that does not fit the model ends the job with a place", options, async () => {
  const wrong = { "a wrong shape": tar([["image/0.npy", npy([1, 1, 9, 8], floats(72))]]), "a wrong input name": tar([["picture/0.npy", digit(0)]]), "a wrong type": tar([["image/0.npy", npy([1, 1, 8, 8], Buffer.alloc(64), { descr: "|u1" })]]) };
  for (const [what, body] of Object.entries(wrong)) {
    await test(what, options, async () => {
      const data = await server.upload("datasets", body);
      const answer = await server.post("/v1/jobs", { ...CALIBRATE, model: ids.model, data });
      const error = answer.status === 202 ? (await server.ended(answer.json.id)).error : answer.json;
      assert.equal(error?.status, 422, JSON.stringify(error));
      assert.ok(error.at, JSON.stringify(error));
    });
  }
});

test("JSON that is not JSON is a 400 that says where", options, async () => {
  for (const text of ["", "{", '{"kind"}', '{"a":1,"a":2}', "[1,2", '{"a":NaN}', '{"a":1} x', "\ufeff{}", '{"a":"\ud800"}'.replace("\ud800", "\\ud800"), '{"a":1e999}', "[".repeat(100000), '{"a":'.repeat(70) + "1" + "}".repeat(70), Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])]) {
    await refused("POST", "/v1/jobs", Buffer.from(text), { status: 400 });
  }
});

test("a job request says what is wrong where", options, async () => {
  const good = { ...CALIBRATE, model: ids.model, data: ids.data };
  const wrong = [
    [{ ...good, kind: "calibrat" }, /^\/kind$/, /calibrate/],
    [{ ...good, kind: "inspect-model" }, /^\/kind$/],
    [{ ...good, kind: 7 }, /^\/kind$/],
    [{ ...good, model: undefined }, /^\/model$/],
    [{ ...good, model: "mdl_aaaaaaaaaaaaaaaaaaaaaaaaaa" }, /^\/model/],
    [{ ...good, data: "dat_aaaaaaaaaaaaaaaaaaaaaaaaaa" }, /^\/data/],
    [{ ...good, model: { from_job: "job_00000000000000000000000000", artifact: "calibrated_model.onnx" } }, /^\/model/],
    [{ ...good, model: { blob: "sha256:" + "0".repeat(64) } }, /^\/model/],
    [{ ...good, model: 3 }, /^\/model/],
    [{ ...good, qant_config: {} }, /^\/qant_config$/, /quant_config/],
    [{ ...good, options: { sample: 3 } }, /^\/options\/sample$/, /samples/],
    [{ ...good, options: { samples: 0 } }, /^\/options\/samples$/],
    [{ ...good, options: { samples: "all" } }, /^\/options\/samples$/],
    [{ ...good, labels: { a: 1 } }, /^\/labels/],
    [{ ...good, priority: 1000000 }, /^\/priority$/],
    [{ ...good, quant_config: [] }, /^\/quant_config/],
  ];
  for (const [body, at, detail] of wrong) {
    await test(`${JSON.stringify(body).slice(0, 90)}`, options, async () => {
      const problem = await refused("POST", "/v1/jobs", JSON.stringify(body), { at });
      if (detail) assert.match(problem.detail, detail);
      if (problem.status === 422) assert.equal(problem.errors?.[0].pointer, problem.at);
    });
  }
});

test("a quant_config is refused with the place and the nearest name", options, async () => {
  const wrong = [
    [{ model_confg: {} }, /model_confg/, /model_config/],
    [{ model_config: { all_node_typ: "int8" } }, /all_node_typ/, /all_node_type/],
    [{ model_config: { all_node_type: "int9" } }, /all_node_type/, /int8/],
    [{ model_config: { activation: { calibration_type: "maxx" } } }, /calibration_type/],
    [{ model_config: { activation: { max_percentile: 1.5 } } }, /max_percentile/],
    [{ model_config: { activation: { num_bin: 3 } } }, /num_bin/],
    [{ node_config: { NoSuchNode: { qtype: "int16" } } }, /NoSuchNode/],
    [{ op_config: { Conv: { qtyp: "int16" } } }, /qtyp/],
  ];
  for (const [quant_config, at, detail] of wrong) {
    await test(JSON.stringify(quant_config), options, async () => {
      for (const text of [false, true]) {
        const body = { ...CALIBRATE, model: ids.model, data: ids.data, quant_config: text ? JSON.stringify(quant_config) : quant_config };
        const answer = await server.post("/v1/jobs", body);
        assert.equal(answer.status, 422, JSON.stringify(answer.json));
        assert.match(answer.json.errors[0].pointer, at);
        assert.match(answer.json.errors[0].pointer, /^\/quant_config/);
        if (detail) assert.match(answer.json.detail, detail);
      }
    });
  }
});

test("names with markup, newlines and zero bytes come back as they are, or are refused", options, async () => {
  for (const name of ["<script>alert(1)</script>", "a\nb", "ü✓", "a\u0000b", "x".repeat(300)]) {
    const body = digits(2, 900 + name.length);
    const answer = await server.request("PUT", `/v1/datasets?name=${encodeURIComponent(name)}`, body);
    assert.ok([200, 201, 400, 422].includes(answer.status), `${answer.status}`);
    if (answer.status === 201) assert.equal(answer.json.name, name);
  }
  await refused("PUT", "/v1/models?name=a&name2=b", matmulModel(9), { status: 422 });
});

test("paths and methods that there are none of", options, async () => {
  for (const path of ["/v1/model", "/v1/models/mdl_x", "/v1/models/..%2f..%2fptqd.sqlite", "/v1/jobs/x", "/v1/../etc/passwd", "/v2/models"]) await server.expect(404, "GET", path);
  const wrong = await server.expect(405, "DELETE", "/v1/models");
  assert.match(wrong.headers.allow, /PUT/);
  await refused("PUT", `/v1/blobs/sha256:${"0".repeat(64)}`, Buffer.from("x"), { status: 422, type: "digest-mismatch" });
  await refused("GET", "/v1/blobs/sha256:zz", undefined, {});
});

test("when all is deleted again that was taken in between, only the files of before are there", options, async () => {
  const demo = new Set([ids.model, ids.data, ids.evaluation]);
  for (const job of await server.all("/v1/jobs")) {
    await server.ended(job.id);
    await server.expect(204, "DELETE", `/v1/jobs/${job.id}`);
  }
  for (const kind of ["models", "datasets"])
    for (const { id } of await server.all(`/v1/${kind}`)) if (!demo.has(id)) await server.expect(204, "DELETE", `/v1/${kind}/${id}`);
  await collected(files);
  for (const kind of ["models", "datasets"]) for (const { id } of await server.all(`/v1/${kind}`)) await server.expect(200, "GET", `/v1/${kind}/${id}/content`);
});
