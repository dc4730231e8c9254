// Configurations: the dry run, what it refuses, profiles and the schema.
import assert from "node:assert/strict";
import fs from "node:fs";
import { spawnSync } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { build, demo } from "./lib/paths.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 60000 };
let server, ids, nodes;
before(async () => {
  server = await Server.start();
  ids = { model: await server.upload("models", fs.readFileSync(demo("digits.onnx"))), data: await server.upload("datasets", fs.readFileSync(demo("digits.tar.gz"))) };
  nodes = (await server.get(`/v1/models/${ids.model}`)).json.summary.nodes;
});
after(() => server.stop());

const check = (quant_config, more) => server.expect(200, "POST", "/v1/configs:check", JSON.stringify({ model: ids.model, quant_config, ...more }), { "Content-Type": "application/json" });
const text = (config, query = `?model=${ids.model}`, status = 200) => server.expect(status, "POST", `/v1/configs:check${query}`, config, { "Content-Type": "text/x-python" });
const started = async () => Number(/^ptq_checks_started_total (\d+)/m.exec((await server.get("/metrics")).body.toString())[1]);

test("a dry run tells the ledger that calibrate gives", options, async () => {
  const conv = nodes.filter((n) => n.op_type === "Conv");
  const quant_config = {
    model_config: { activation: { calibration_type: "max" } },
    op_config: { Conv: { qtype: "int16" } },
    node_config: { [conv[1].name]: { input1: "ec" }, [conv[2].name]: { qtype: "int8" } },
  };
  const dry = (await check(quant_config)).json;
  const job = await server.submit({ ...CALIBRATE, ...ids, quant_config });
  assert.equal((await server.ended(job.id)).state, "succeeded");
  const wet = (await server.get(`/v1/jobs/${job.id}/results`)).json;
  assert.deepEqual(dry.ledger, wet.ledger);
  assert.deepEqual(dry.compensated, [conv[1].name]);
  assert.deepEqual(dry.candidates.length, 1);
  const { precisions, macs } = dry.cost;
  assert.ok(precisions.ec.nodes === 1 && precisions.ec.macs > 0 && precisions.int8.macs > 0 && precisions.int16.macs > 0);
  assert.equal(Object.values(precisions).reduce((sum, p) => sum + p.macs, 0), macs);
});

test("all of it in int8 costs one, in int16 two", options, async () => {
  const total = nodes.reduce((sum, n) => sum + n.macs, 0);
  for (const [all_node_type, relative] of [["int8", 1], ["int16", 2]]) {
    const { cost } = (await check({ model_config: { all_node_type } })).json;
    assert.equal(cost.macs, total);
    assert.equal(cost.precisions[all_node_type].share, 1);
    assert.equal(cost.relative, relative);
  }
});

test("the dialect is taken as a string and as a body of text", options, async () => {
  const config = "quant_config = {\n  'model_config': {'all_node_type': 'int16', }, # wide\n}\n";
  const [plain, string, body] = [await check({ model_config: { all_node_type: "int16" } }), await check(config), await text(config)];
  assert.deepEqual(string.json.ledger, plain.json.ledger);
  assert.deepEqual(body.json, string.json);
  const broken = await text("{'model_config': {\n  oops}}", undefined, 422);
  assert.equal(broken.json.errors[0].pointer, "/quant_config");
  assert.match(broken.json.detail, /[Ll]ine 2/);
  assert.equal((await text("{}", "", 422)).json.at, "/model");
});

test("what is wrong has its place and the nearest names", options, async () => {
  const { name } = nodes.find((n) => n.op_type === "Conv");
  const wrong = [
    [{ node_config: { [`${name}x`]: { qtype: "int16" } } }, `/quant_config/node_config/${name.replaceAll("~", "~0").replaceAll("/", "~1")}x`, name],
    [{ model_config: { activation: { calibration_type: "mox" } } }, "/quant_config/model_config/activation/calibration_type", "max"],
    [{ op_config: { Konv: { qtype: "int16" } } }, "/quant_config/op_config/Konv", "Conv"],
  ];
  for (const [quant_config, pointer, near] of wrong) {
    const body = { model: ids.model, quant_config };
    const { json } = await server.expect(422, "POST", "/v1/configs:check", JSON.stringify(body), { "Content-Type": "application/json" });
    assert.equal(json.errors[0].pointer, pointer);
    assert.ok(json.detail.includes(`"${near}"`), json.detail);
  }
});

test("the same question is not computed again, and no configuration none at all", options, async () => {
  const config = { model_config: { activation: { calibration_type: "kl", num_bin: 777 } } };
  await check(config);
  const before = await started();
  await check(config);
  await server.submit({ ...CALIBRATE, ...ids, quant_config: config });
  await server.submit({ kind: "calibrate", ...ids });
  await server.expect(422, "POST", "/v1/jobs", JSON.stringify({ kind: "calibrate", ...ids, data: "dat_none", quant_config: { a: 1 } }));
  assert.equal(await started(), before);
});

test("a wrong configuration makes no job", options, async () => {
  const count = async () => (await server.all("/v1/jobs")).length;
  const before = await count();
  for (let i = 0; i < 2; i++) await server.expect(422, "POST", "/v1/jobs", JSON.stringify({ kind: "calibrate", ...ids, quant_config: { node_config: { nobody: { qtype: "int16" } } } }));
  await server.expect(422, "POST", "/v1/jobs", JSON.stringify({ kind: "calibrate", ...ids, options: { march: "nash-x" } }));
  assert.equal(await count(), before);
});

test("marches are listed, read, and named in the ledger", options, async () => {
  const { items } = (await server.expect(200, "GET", "/v1/profiles")).json;
  assert.deepEqual(items.map((p) => [p.march, p.default]), [["nash-e", true], ["nash-m", false]]);
  for (const { march, links } of items) {
    const { json, headers } = await server.expect(200, "GET", links.self);
    assert.equal(json.march, march);
    assert.ok(json.rules.every((r) => r.rule.startsWith(`${march}/`) && r.text));
    await server.expect(304, "GET", links.self, undefined, { "If-None-Match": headers.etag });
    const { rules } = (await check({ model_config: { all_node_type: "int16" } }, { march })).json;
    assert.ok(rules.some((r) => r.rule.startsWith(`${march}/`)), JSON.stringify(rules));
  }
  await server.expect(404, "GET", "/v1/profiles/nash-x");
});

test("the schema is served", options, async () => {
  const { json } = await server.expect(200, "GET", "/v1/schemas/quant_config");
  assert.equal(json.$id, "/v1/schemas/quant_config");
  assert.deepEqual(Object.keys(json.properties).sort(), ["model_config", "node_config", "op_config", "subgraph_config"]);
});

test("ptq check tells the same with a server and without", options, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "ptq-check-"));
  const file = path.join(dir, "config.py");
  const ptq = (...args) => spawnSync(path.join(build, "ptq"), ["check", demo("digits.onnx"), "-c", file, ...args], { env: { ...process.env, PTQ_URL: `http://127.0.0.1:${server.port}` }, encoding: "utf8" });
  try {
    fs.writeFileSync(file, "quant_config = {'model_config': {'all_node_type': 'int16',},}  # wide\n");
    const [remote, local] = [ptq("--json"), ptq("--json", "--local")];
    assert.equal(remote.status, 0, remote.stderr);
    assert.equal(local.status, 0, local.stderr);
    assert.deepEqual(JSON.parse(local.stdout), JSON.parse(remote.stdout));
    const table = ptq("--march", "nash-m", "--full-names");
    assert.equal(table.status, 0, table.stderr);
    assert.match(table.stdout, /^March nash-m, 10 calibration methods to try$/m);
    assert.match(table.stdout, /^int16 +\d+ +\d+ +100.00 % *$/m);
    fs.writeFileSync(file, '{"op_config": {"Conv": {"qtyp": "int16"}}}');
    for (const more of [[], ["--local"]]) {
      const wrong = ptq(...more);
      assert.equal(wrong.status, 1);
      assert.match(wrong.stderr, /\/quant_config\/op_config\/Conv\/qtyp: .*"qtype"/);
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
