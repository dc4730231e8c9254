// Recurrent layers, attention, quantization, signal, control flow.
import { F, Fs, G, T } from '../onnx.mjs';

const floats = ['f32', 'f16', 'f64'];
const S = 3, B = 2, I = 4, H = 5;
function recurrent(op, gates, acts, more) {
  const outs = op === 'LSTM' ? ['T', 'T', 'T'] : ['T', 'T'];
  return ['forward', 'reverse', 'bidirectional'].flatMap((direction) => {
    const D = direction === 'bidirectional' ? 2 : 1;
    const base = ['T[3,2,4] -1..1', `T[${D},${gates * H},${I}] -1..1`, `T[${D},${gates * H},${H}] -1..1`];
    const bias = `T[${D},${2 * gates * H}] -1..1`;
    const state = `T[${D},${B},${H}] -1..1`;
    const states = op === 'LSTM' ? [state, state] : [state];
    const row = (name, attrs, inputs) => ({ op, name: `${direction}-${name}`, attrs: { hidden_size: H, direction, ...attrs }, outs, in: inputs });
    return [
      row('plain', {}, base), row('bias', {}, [...base, bias]),
      { ...row('states', {}, [...base, bias, '', ...states]), types: ['f32', 'f64', 'f16'] },
      row('lengths', {}, [...base, bias, 'i32[2]=3,1', ...states]),
      // Over two steps no cell state reaches the clip; from 1 to 2 each exceeds it.
      row('clip', { clip: F(0.5) }, [base[0].replace('3,', '2,'), ...base.slice(1), bias]),
      row('clip-states', { clip: F(0.3) }, [...base, bias, '', ...states.map((s) => s.replace('-1..1', '1..2'))]),
      row('acts', { activations: Array(D).fill(acts).flat() }, [...base, bias, '', ...states]),
      ...more.map(([name, attrs, extra]) => row(name, attrs, [...base, bias, '', ...states, ...(extra ? [extra(D)] : [])])),
    ];
  });
}
const layers = [
  ...recurrent('LSTM', 4, ['Sigmoid', 'Tanh', 'Relu'], [
    ['peephole', {}, (D) => `T[${D},${3 * H}] -1..1`], ['forget', { input_forget: 1 }],
    ['softsign', { activations: ['Softsign', 'Softplus', 'Tanh', 'Softsign', 'Softplus', 'Tanh'] }]].map(([n, a, e]) => [n, a, e]).filter(([n]) => n !== 'softsign')),
  ...recurrent('GRU', 3, ['HardSigmoid', 'Relu'], [['linear', { linear_before_reset: 1 }]]),
  ...recurrent('RNN', 1, ['Relu'], []),
  ...['LSTM', 'GRU', 'RNN'].map((op) => {
    const g = { LSTM: 4, GRU: 3, RNN: 1 }[op];
    return { op, since: 14, name: 'layout', attrs: { hidden_size: H, layout: 1 }, outs: ['T', 'T'], in: ['T[2,3,4] -1..1', `T[1,${g * H},${I}] -1..1`, `T[1,${g * H},${H}] -1..1`] };
  }),
  { op: 'RNN', name: 'affine', attrs: { hidden_size: H, activations: ['Affine'], activation_alpha: Fs(0.5), activation_beta: Fs(0.1) }, outs: ['T', 'T'], in: [`T[3,2,4] -1..1`, `T[1,${H},4] -1..1`, `T[1,${H},${H}] -1..1`] },
  { op: 'RNN', name: 'leaky', attrs: { hidden_size: H, activations: ['LeakyRelu'], activation_alpha: Fs(0.2) }, outs: ['T', 'T'], in: [`T[3,2,4] -1..1`, `T[1,${H},4] -1..1`, `T[1,${H},${H}] -1..1`] },
  { op: 'RNN', name: 'only-last', attrs: { hidden_size: H }, outs: ['', 'T'], in: [`T[3,2,4] -1..1`, `T[1,${H},4] -1..1`, `T[1,${H},${H}] -1..1`] },
];

const qkv = (q, k, v) => [`T[${q}] -1..1`, `T[${k}] -1..1`, `T[${v}] -1..1`];
const attention = [
  ...[{}, { is_causal: 1 }, { scale: F(0.3) }, { softcap: F(2) }].flatMap((attrs) => [
    { op: 'Attention', types: ['f32', 'f16'], attrs, in: qkv('2,3,4,8', '2,3,6,8', '2,3,6,8') },
    { op: 'Attention', attrs: { ...attrs, q_num_heads: 3, kv_num_heads: 3 }, in: qkv('2,4,24', '2,6,24', '2,6,24') },
    { op: 'Attention', attrs: { ...attrs, q_num_heads: 6, kv_num_heads: 3 }, in: qkv('2,4,48', '2,6,24', '2,6,30') },
    { op: 'Attention', attrs, name: `gqa-${Object.keys(attrs)[0] ?? ''}`, in: qkv('2,6,4,8', '2,3,6,8', '2,3,6,8') },
    { op: 'Attention', attrs, name: `mask-${Object.keys(attrs)[0] ?? ''}`, in: [...qkv('2,3,4,8', '2,3,6,8', '2,3,6,8'), 'T[4,6] -1..1'] },
    { op: 'Attention', attrs, name: `bmask-${Object.keys(attrs)[0] ?? ''}`, in: [...qkv('2,3,4,8', '2,3,6,8', '2,3,6,8'), 'bool[2,1,4,6]=1,0,1,1,1,0,1,1,1,0,1,1,1,0,0,1,1,1,1,1,1,1,0,0,1,0,1,1,1,0,1,1,1,0,1,1,1,0,0,1,1,1,1,1,1,1,0,0'] },
    { op: 'Attention', attrs, name: `past-${Object.keys(attrs)[0] ?? ''}`, outs: ['T', 'T', 'T'], in: [...qkv('2,3,4,8', '2,3,6,8', '2,3,6,8'), '', 'T[2,3,5,8]', 'T[2,3,5,8]'] },
  ]),
  ...[0, 1, 2, 3].map((mode) => ({ op: 'Attention', name: `qk-${mode}`, attrs: { qk_matmul_output_mode: mode, softcap: F(1.5) }, outs: ['T', '', '', 'T'], in: [...qkv('2,3,4,8', '2,3,6,8', '2,3,6,8'), 'T[4,6] -1..1'] })),
  ...[{}, { interleaved: 1 }].flatMap((attrs) => [
    { op: 'RotaryEmbedding', types: ['f32', 'f16'], attrs, in: ['T[2,3,4,8]', 'T[10,4]', 'T[10,4]', 'i64[2,4]=0,1,2,3,4,5,6,7'] },
    { op: 'RotaryEmbedding', attrs: { ...attrs, num_heads: 3 }, in: ['T[2,4,24]', 'T[10,4]', 'T[10,4]', 'i64[2,4]=0,1,2,3,4,5,6,7'] },
    { op: 'RotaryEmbedding', attrs: { ...attrs, rotary_embedding_dim: 4 }, in: ['T[2,3,4,8]', 'T[10,2]', 'T[10,2]', 'i64[2,4]=0,1,2,3,4,5,6,7'] },
    { op: 'RotaryEmbedding', attrs, name: `no-ids-${attrs.interleaved ?? 0}`, in: ['T[2,3,4,8]', 'T[2,4,4]', 'T[2,4,4]'] },
  ]),
];

const limits = { u8: '0..255', i8: '-128..127', u16: '0..65535', i16: '-32768..32767' };
const q8 = ['u8', 'i8'], q16 = ['u16', 'i16'];
const quantized = [
  ...q8.flatMap((z) => [
    { op: 'QuantizeLinear', name: `tensor-${z}`, outs: [z], in: ['f32[3,4] -9..9', 'f32[]=0.05', `${z}[]=7`] },
    { op: 'QuantizeLinear', since: 13, name: `axis-${z}`, attrs: { axis: 1 }, outs: [z], in: ['f32[2,3,4] -9..9', 'f32[3]=0.05,0.1,0.02', `${z}[3]=0,7,3`] },
    { op: 'QuantizeLinear', since: 13, name: `axis-last-${z}`, attrs: { axis: -1 }, outs: [z], in: ['f32[2,3] -9..9', 'f32[3]=0.05,0.1,0.02', `${z}[3]=0,7,3`] },
    { op: 'QuantizeLinear', since: 21, name: `block-${z}`, attrs: { axis: 1, block_size: 2 }, outs: [z], in: ['f32[2,6] -9..9', 'f32[2,3] 0.02..0.1', `${z}[2,3] 0..9`] },
    { op: 'QuantizeLinear', name: `ties-${z}`, outs: [z], in: ['f32[6]=0.5,1.5,2.5,-0.5,300,-300', 'f32[]=1', `${z}[]=1`] },
    { op: 'DequantizeLinear', name: 'tensor', types: [z], outs: ['f32'], in: [`T[3,4] ${limits[z]}`, 'f32[]=0.05', 'T[]=7'] },
    { op: 'DequantizeLinear', name: 'no-zero', types: [z], outs: ['f32'], in: [`T[3,4] ${limits[z]}`, 'f32[]=0.05'] },
    { op: 'DequantizeLinear', since: 13, name: 'axis', types: [z], attrs: { axis: 1 }, outs: ['f32'], in: [`T[2,3,4] ${limits[z]}`, 'f32[3]=0.05,0.1,0.02', 'T[3]=0,7,3'] },
    { op: 'DequantizeLinear', since: 21, name: 'block', types: [z], attrs: { axis: 0, block_size: 3 }, outs: ['f32'], in: [`T[6,2] ${limits[z]}`, 'f32[2,2] 0.02..0.1', 'T[2,2] 0..9'] },
    { op: 'DequantizeLinear', since: 21, name: 'block-uneven', types: [z], attrs: { axis: 1, block_size: 3 }, outs: ['f32'], in: [`T[2,7] ${limits[z]}`, 'f32[2,3] 0.02..0.1'] },
    { op: 'DequantizeLinear', since: 19, name: 'half', types: [z], outs: ['f16'], in: [`T[3,4] ${limits[z]}`, 'f16[]=0.05', 'T[]=7'] },
    { op: 'QuantizeLinear', since: 19, name: `half-${z}`, outs: [z], in: ['f16[3,4] -9..9', 'f16[]=0.0625', `${z}[]=7`] },
  ]),
  ...q16.flatMap((z) => [
    { op: 'QuantizeLinear', since: 21, name: `tensor-${z}`, outs: [z], in: ['f32[3,4] -9..9', 'f32[]=0.0005', `${z}[]=700`] },
    { op: 'QuantizeLinear', since: 21, name: `axis-${z}`, attrs: { axis: 1 }, outs: [z], in: ['f32[2,3] -9..9', 'f32[3]=0.0005,0.001,0.002', `${z}[3]=0,7,3`] },
    { op: 'DequantizeLinear', since: 21, name: 'tensor', types: [z], outs: ['f32'], in: [`T[3,4] ${limits[z]}`, 'f32[]=0.0005', 'T[]=700'] },
  ]),
  { op: 'QuantizeLinear', name: 'no-zero', outs: ['u8'], in: ['f32[3,4] 0..9', 'f32[]=0.05'] },
  ...[5, 3, 4, 2].map((id) => ({ op: 'QuantizeLinear', since: 21, name: `dtype${id}`, attrs: { output_dtype: id }, outs: [{ 5: 'i16', 3: 'i8', 4: 'u16', 2: 'u8' }[id]], in: ['f32[3,4] -9..9', 'f32[]=0.05'] })),
  { op: 'DequantizeLinear', name: 'i32', outs: ['f32'], in: ['i32[3,4]', 'f32[]=0.05'] },
  { op: 'DynamicQuantizeLinear', name: 'signs', outs: ['u8', 'f32', 'u8'], in: ['f32[3,4]'] },
  { op: 'DynamicQuantizeLinear', name: 'positive', outs: ['u8', 'f32', 'u8'], in: ['f32[3,4] 1..5'] },
  { op: 'DynamicQuantizeLinear', name: 'negative', outs: ['u8', 'f32', 'u8'], in: ['f32[3,4] -5..-1'] },
  { op: 'DynamicQuantizeLinear', name: 'zero', outs: ['u8', 'f32', 'u8'], in: ['f32[2]=0,0'] },
  ...q8.flatMap((a) => q8.flatMap((b) => [
    { op: 'MatMulInteger', name: `${a}-${b}`, outs: ['i32'], in: [`${a}[2,3,4] ${limits[a]}`, `${b}[4,5] ${limits[b]}`, `${a}[]=7`, `${b}[]=3`] },
    { op: 'MatMulInteger', name: `plain-${a}-${b}`, outs: ['i32'], in: [`${a}[3,4] ${limits[a]}`, `${b}[4,5] ${limits[b]}`] },
    { op: 'MatMulInteger', name: `columns-${a}-${b}`, outs: ['i32'], in: [`${a}[3,4] ${limits[a]}`, `${b}[4,5] ${limits[b]}`, `${a}[]=7`, `${b}[5]=3,1,0,2,5`] },
    { op: 'QLinearMatMul', name: `${a}-${b}`, outs: [a], in: [`${a}[2,3,4] ${limits[a]}`, 'f32[]=0.02', `${a}[]=7`, `${b}[4,5] ${limits[b]}`, 'f32[]=0.03', `${b}[]=3`, 'f32[]=0.2', `${a}[]=9`] },
    { op: 'QLinearConv', name: `${a}-${b}`, attrs: { pads: [1, 1, 1, 1] }, outs: [a], in: [`${a}[1,3,5,6] ${limits[a]}`, 'f32[]=0.02', `${a}[]=7`, `${b}[4,3,3,3] ${limits[b]}`, 'f32[]=0.03', `${b}[]=0`, 'f32[]=0.4', `${a}[]=9`, 'i32[4]'] },
    { op: 'ConvInteger', name: `${a}-${b}`, attrs: { pads: [1, 0, 1, 0] }, outs: ['i32'], in: [`${a}[1,3,5,6] ${limits[a]}`, `${b}[4,3,3,3] ${limits[b]}`, `${a}[]=7`, `${b}[]=0`] },
  ])),
  { op: 'QLinearConv', name: 'channels', attrs: { group: 2, strides: [2, 2] }, outs: ['u8'], in: ['u8[1,4,6,6] 0..255', 'f32[]=0.02', 'u8[]=7', 'i8[6,2,3,3] -128..127', 'f32[6] 0.01..0.05', 'i8[6]=0,0,0,0,0,0', 'f32[]=0.4', 'u8[]=9'] },
];

const signal = [
  ...'HannWindow HammingWindow BlackmanWindow'.split(' ').flatMap((op) => [{}, { periodic: 0 }, { output_datatype: 11 }].map((attrs) => ({ op, attrs, outs: [attrs.output_datatype ? 'f64' : 'f32'], in: ['i64[]=10'] }))),
  ...[{}, { inverse: 1 }, { onesided: 1 }].flatMap((attrs) => [
    { op: 'DFT', until: 19, attrs: { ...attrs, axis: 1 }, types: ['f32', 'f64'], in: [`T[2,6,${attrs.inverse ? 2 : 1}]`] },
    { op: 'DFT', since: 20, name: `axis-${Object.keys(attrs)}`, attrs, types: ['f32', 'f64'], in: [`T[2,6,${attrs.inverse ? 2 : 1}]`, '', 'i64[]=1'] },
    { op: 'DFT', since: 20, name: `length-${Object.keys(attrs)}`, attrs, in: [`T[2,6,${attrs.inverse ? 2 : 1}]`, 'i64[]=9', 'i64[]=-2'] },
    { op: 'DFT', since: 20, name: `short-${Object.keys(attrs)}`, attrs, in: [`T[2,6,${attrs.inverse ? 2 : 1}]`, 'i64[]=4', 'i64[]=1'] },
  ]),
  ...[0, 1].map((onesided) => ({ op: 'STFT', attrs: { onesided }, in: ['T[1,32,1]', 'i64[]=4', 'T[8] 0..1'] })),
  { op: 'STFT', name: 'length', in: ['T[2,32,1] -1..1', 'i64[]=5', '', 'i64[]=10'] },
  { op: 'MelWeightMatrix', outs: ['f32'], in: ['i64[]=6', 'i64[]=16', 'i64[]=8000', 'f32[]=0', 'f32[]=4000'] },
];

// ---- control flow: the row writes the graph ----

const info = (name, type, dims) => ({ name, type, dims });
const graphs = [
  ...[0, 1].map((cond) => ({
    op: 'If', name: `cond${cond}`, in: [`bool[]=${cond}`, 'f32[2,3]'],
    graph: () => ({
      nodes: [{ op: 'If', in: ['x0'], out: ['y0'], attrs: {
        then_branch: G({ nodes: [{ op: 'Add', in: ['x1', 'x1'], out: ['t'] }], outputs: [info('t', 'f32', [2, 3])] }),
        else_branch: G({ nodes: [{ op: 'Neg', in: ['x1'], out: ['e'] }], outputs: [info('e', 'f32', [2, 3])] }) } }],
      inputs: [info('x0', 'bool', []), info('x1', 'f32', [2, 3])], outputs: [info('y0', 'f32')] }),
  })),
  ...[0, 1, 4].map((trip) => ({
    op: 'Loop', name: `trip${trip}`, in: [`i64[]=${trip}`, 'bool[]=1', 'f32[3]'], until: 23,
    graph: () => ({
      nodes: [{ op: 'Loop', in: ['x0', 'x1', 'x2'], out: ['y0', 'y1'], attrs: { body: G({
        nodes: [{ op: 'Add', in: ['v', 'x2'], out: ['w'] }, { op: 'Identity', in: ['c'], out: ['k'] }, { op: 'Mul', in: ['w', 'w'], out: ['s'] }],
        inputs: [info('i', 'i64', []), info('c', 'bool', []), info('v', 'f32', [3])],
        outputs: [info('k', 'bool', []), info('w', 'f32', [3]), info('s', 'f32', [3])] }) } }],
      inputs: [info('x0', 'i64', []), info('x1', 'bool', []), info('x2', 'f32', [3])], outputs: [info('y0', 'f32'), info('y1', 'f32')] }),
  })),
  ...[{}, { scan_input_directions: [1] }, { scan_output_directions: [1] }, { scan_input_axes: [1], scan_output_axes: [-1] }].map((attrs) => ({
    op: 'Scan', since: 9, name: Object.keys(attrs)[0] ?? 'plain', in: ['f32[3]', 'f32[3,3]'],
    graph: () => ({
      nodes: [{ op: 'Scan', in: ['x0', 'x1'], out: ['y0', 'y1'], attrs: { num_scan_inputs: 1, ...attrs, body: G({
        nodes: [{ op: 'Add', in: ['v', 'a'], out: ['w'] }, { op: 'Mul', in: ['w', 'a'], out: ['s'] }],
        inputs: [info('v', 'f32', [3]), info('a', 'f32', [3])], outputs: [info('w', 'f32', [3]), info('s', 'f32', [3])] }) } }],
      inputs: [info('x0', 'f32', [3]), info('x1', 'f32', [3, 3])], outputs: [info('y0', 'f32'), info('y1', 'f32')] }),
  })),
];

export default [...layers, ...attention, ...quantized, ...signal, ...graphs];
