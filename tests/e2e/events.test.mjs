// Event streams: what is read in pieces is what is read at once.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 120000 };
const SSE = "text/event-stream";
let server, ids;
before(async () => {
  server = await Server.start();
  ids = await server.uploadDemo();
});
after(() => server.stop());

let variants = 200;
const submit = () => server.submit({ ...CALIBRATE, model: ids.model, data: ids.data, quant_config: { model_config: { activation: { calibration_type: "kl", num_bin: variants++ } } } });
const stored = async (id) => (await server.events(`/v1/jobs/${id}/events?follow=false`)).rows;
// Progress may be dropped for a slow reader; everything else is there for ever.
const lasting = (rows) => rows.filter((r) => r.type !== "progress");

test("a followed stream ends with done, and is what is stored", options, async () => {
  const { id } = await submit();
  const live = await server.events(`/v1/jobs/${id}/events`);
  assert.ok(live.ended);
  assert.equal(live.rows.at(-1).type, "done");
  assert.deepEqual(live.rows.at(-1).data.state, "succeeded");
  assert.equal(live.rows.filter((r) => r.type === "done").length, 1);
  for (const [i, row] of live.rows.entries()) {
    assert.equal(row.job, id);
    if (i) assert.ok(row.seq > live.rows[i - 1].seq);
  }
  assert.deepEqual(lasting(await stored(id)), lasting(live.rows));
  assert.match(live.headers["cache-control"], /no-cache/);
});

test("SSE and NDJSON carry the same rows", options, async () => {
  const { id } = await submit();
  const [a, b] = await Promise.all([server.events(`/v1/jobs/${id}/events`), server.events(`/v1/jobs/${id}/events`, { accept: SSE })]);
  assert.match(b.headers["content-type"], /^text\/event-stream/);
  assert.deepEqual(lasting(b.rows), lasting(a.rows));
});

for (const accept of ["application/x-ndjson", SSE]) {
  test(`pieces over many reconnects make the whole log (${accept})`, options, async () => {
    const { id } = await submit();
    const pieces = [];
    for (let connects = 0; ; connects++) {
      assert.ok(connects < 1000);
      const last = pieces.at(-1)?.seq;
      const resume = accept === SSE ? { lastEventId: last } : {};
      const path = `/v1/jobs/${id}/events${accept !== SSE && last ? `?after=${last}` : ""}`;
      const piece = await server.events(path, { accept, enough: (rows) => rows.length >= 1 + (connects % 4), ...resume });
      pieces.push(...piece.rows);
      if (piece.ended || piece.rows.at(-1)?.type === "done") break;
    }
    const whole = await stored(id);
    assert.deepEqual(lasting(pieces), lasting(whole));
    const seqs = pieces.map((r) => r.seq);
    assert.equal(new Set(seqs).size, seqs.length, "no row comes twice");
  });
}

test("after wins over Last-Event-ID; behind the end there is nothing", options, async () => {
  const { id } = await submit();
  await server.succeeded(id);
  const whole = await stored(id);
  const path = `/v1/jobs/${id}/events`;
  assert.deepEqual((await server.events(`${path}?after=${whole[0].seq}`, { lastEventId: whole.at(-1).seq })).rows, whole.slice(1));
  const beyond = await server.events(`${path}?after=${whole.at(-1).seq}`);
  assert.ok(beyond.ended);
  assert.equal(beyond.rows.length, 0);
});

test("one stream carries several jobs and ends with the last of them", options, async () => {
  const jobs = [await submit(), await submit(), await submit()];
  const { rows, ended } = await server.events(`/v1/events?jobs=${jobs.map((j) => j.id).join(",")}`);
  assert.ok(ended);
  for (const { id } of jobs) assert.deepEqual(lasting(rows.filter((r) => r.job === id)), lasting(await stored(id)));
  for (let i = 1; i < rows.length; i++) assert.ok(rows[i].seq > rows[i - 1].seq);
});

test("wrong stream requests are problems", options, async () => {
  const { id } = await submit();
  await server.expect(422, "GET", `/v1/jobs/${id}/events?after=x`);
  await server.expect(422, "GET", `/v1/jobs/${id}/events?after=-1`);
  await server.expect(422, "GET", `/v1/jobs/${id}/events?folow=false`);
  await server.expect(422, "GET", "/v1/events");
  await server.expect(404, "GET", "/v1/events?jobs=job_00000000000000000000000000");
  await server.expect(404, "GET", "/v1/jobs/job_00000000000000000000000000/events");
  await server.ended(id);
});

test("a drained server ends its streams", options, async () => {
  const own = await Server.start();
  const demo = await own.uploadDemo();
  const { id } = await own.submit({ ...CALIBRATE, model: demo.model, data: demo.evaluation });
  const reading = own.events(`/v1/jobs/${id}/events`);
  await own.events(`/v1/jobs/${id}/events`, { enough: (rows) => rows.length > 0 });
  await own.stop();
  const { ended, cut } = await reading;
  assert.ok(ended || cut);
});
