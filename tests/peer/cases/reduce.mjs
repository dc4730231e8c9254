// Reductions, Arg*, TopK, CumSum, softmax, normalizations, losses.
import { F } from '../onnx.mjs';

const floats = ['f32', 'f16', 'f64'];
const whole = ['i32', 'u32', 'i64', 'u64'];
const small = ['i8', 'u8'];
const by = (list, row) => list.map((x) => row(x));

// In opset 18 (ReduceSum: 13) the axes became an input.
const axesLists = [undefined, [0], [1], [-1], [0, 2], [-3, -1], [0, 1, 2]];
const text = (axes) => `i64[${axes.length}]${axes.length ? `=${axes}` : ''}`;
function reduction(op, x, row) {
  const asInput = op === 'ReduceSum' ? 13 : 18;
  return [0, 1].flatMap((keepdims) => axesLists.flatMap((axes) => [
    { op, until: asInput - 1, attrs: axes ? { axes, keepdims } : { keepdims }, in: [x], ...row },
    { op, since: asInput, name: `axes=${axes ?? 'none'}_keep=${keepdims}`, attrs: { keepdims }, in: axes ? [x, text(axes)] : [x], ...row },
  ]));
}
const reductions = [
  ...by('ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp'.split(' '), (op) => [
    ...reduction(op, 'T[3,2,4] -2..2', {}),
    { op, types: op === 'ReduceLogSumExp' ? floats : [...floats, ...whole], in: ['T[3,2,4] 1..3'] },
    { op, name: 'scalar', in: ['T[]=2'] },
    { op, since: 18, name: 'noop', attrs: { noop_with_empty_axes: 1 }, in: ['T[3,2,4]'] },
    { op, since: 18, name: 'noop-empty', attrs: { noop_with_empty_axes: 1 }, in: ['T[3,2,4]', 'i64[0]'] },
    { op, since: 18, name: 'empty-axes', in: ['T[3,2,4]', 'i64[0]'] },
    { op, since: 18, name: 'zero-size', in: ['T[2,0,4]', 'i64[1]=1'] },
    { op, since: 18, name: 'zero-size-kept', in: ['T[2,0,4]', 'i64[1]=0'] },
  ]).flat(),
  ...reduction('ReduceLogSum', 'T[3,2,4] 0.5..2', {}),
  ...by(['ReduceMax', 'ReduceMin'], (op) => ({ op, since: 12, types: small, in: ['T[3,2,4]'] })),
  ...by(['ReduceMax', 'ReduceMin'], (op) => ({ op, since: 20, types: ['bool'], in: ['T[3,2,4]', 'i64[1]=1'] })),
  ...by(['ReduceMax', 'ReduceMin', 'ReduceLogSumExp'], (op) => ({ op, name: 'inf', in: ['T[4]=-inf,1,2,-inf'] })),
  { op: 'ReduceLogSumExp', types: whole, name: 'apart', in: ['T[6]=1,9,17,25,33,41'] },
  { op: 'ReduceLogSumExp', types: ['i32', 'i64'], name: 'sum', in: ['T[4]=3,3,2,2'] },
  { op: 'ReduceLogSumExp', name: 'large', in: ['T[4]=500,501,499,-700'] },
  { op: 'ReduceMean', until: 17, types: ['i32', 'i64'], attrs: { axes: [1] }, in: ['T[3,5] -20..20'] },
  ...by(['ArgMax', 'ArgMin'], (op) => [
    ...by([undefined, 0, 1, 2, -1, -3], (axis) => [0, 1].map((keepdims) => ({ op, attrs: axis === undefined ? { keepdims } : { axis, keepdims }, outs: ['i64'], in: ['T[3,2,4]'] }))).flat(),
    { op, types: ['f64', 'f16', 'i32', 'i8', 'u8', 'i64'], outs: ['i64'], in: ['T[5,6] 0..3'] },
    { op, since: 12, attrs: { select_last_index: 1, axis: 1 }, outs: ['i64'], types: ['f32', 'i32'], in: ['T[2,6]=1,1,0,1,0,0,2,2,2,2,2,2'] },
  ]).flat(),
];

const ordered = [
  ...by([{ k: 2 }, { k: 3, axis: 0 }, { k: 1, axis: -2 }], (attrs) => ({ op: 'TopK', until: 9, attrs, outs: ['T', 'i64'], in: ['T[4,3,5]'] })),
  ...by([[2, {}], [3, { axis: 0 }], [1, { axis: -2 }], [5, {}], [0, {}]], ([k, attrs]) => ({ op: 'TopK', since: 10, name: `k${k}-${attrs.axis ?? ''}`, attrs, outs: ['T', 'i64'], types: k === 2 ? [...floats, 'i32', 'i64', 'i8', 'u8'] : ['f32'], in: ['T[4,3,5]', `i64[1]=${k}`] })),
  { op: 'TopK', since: 11, attrs: { largest: 0, axis: 0 }, outs: ['T', 'i64'], types: ['f32', 'i64'], in: ['T[4,3]', 'i64[1]=2'] },
  { op: 'TopK', since: 11, name: 'ties', outs: ['T', 'i64'], types: ['f32', 'i32'], in: ['T[6]=1,2,2,2,1,1', 'i64[1]=5'] },
  { op: 'TopK', since: 11, name: 'ties-smallest', attrs: { largest: 0 }, outs: ['T', 'i64'], in: ['T[6]=1,2,2,2,1,1', 'i64[1]=5'] },
  ...by([[0, {}], [1, { reverse: 1 }], [-1, { exclusive: 1 }], [-2, { exclusive: 1, reverse: 1 }]], ([axis, attrs]) => ({ op: 'CumSum', name: `${axis}-${Object.keys(attrs).join('-')}`, attrs, types: ['f32', 'f64', 'i32', 'i64'], in: ['T[3,4]', `i32[]=${axis}`] })),
  { op: 'CumSum', name: 'axis-i64-1d', in: ['T[2,3,2]', 'i64[1]=1'] },
  ...by([...floats, ...whole, 'u8', 'bool'], (T) => ({ op: 'NonZero', types: [T], outs: ['i64'], in: ['T[3,4] 0..1'] })),
  { op: 'NonZero', name: 'scalar', outs: ['i64'], in: ['T[]=2'] },
  { op: 'NonZero', name: 'none', outs: ['i64'], in: ['T[0,2]'] },
  ...by([{}, { sorted: 0 }, { axis: 0 }, { axis: 1, sorted: 0 }, { axis: -1 }], (attrs) => ({ op: 'Unique', types: ['f32', 'i64', 'f64', 'i8'], attrs, outs: ['T', 'i64', 'i64', 'i64'], in: ['T[3,4]=2,1,1,3,2,1,1,3,0,2,2,0'] })),
];

const softmaxes = [
  ...by('Softmax LogSoftmax Hardmax'.split(' '), (op) => [
    ...by([{}, { axis: 0 }, { axis: 1 }, { axis: 2 }], (attrs) => ({ op, types: floats, attrs, in: ['T[3,4,5]'] })),
    ...by([-1, -2, -3], (axis) => ({ op, since: 11, attrs: { axis }, in: ['T[3,4,5]'] })),
    { op, name: 'large', in: ['T[1,4]=1000,1001,999,-1000'] },
    { op, name: 'vector', since: 13, in: ['T[7]'] },
    { op, name: 'rank4', attrs: { axis: 1 }, in: ['T[2,3,4,2]'] },
    { op, name: 'empty', since: 13, in: ['T[2,0]'] },
    { op, name: 'ties', in: ['T[2,4]=1,1,1,1,2,3,3,1'] },
  ]).flat(),
];

const n3 = ['T[3]', 'T[3]', 'T[3]', 'T[3] 0.5..2'];
const norms = [
  ...by([['2,3,4,5'], ['2,3'], ['2,3,6'], ['1,3,2,2,2']], ([s]) => ({ op: 'BatchNormalization', types: s === '2,3,4,5' ? floats : ['f32'], in: [`T[${s}]`, ...n3] })),
  { op: 'BatchNormalization', attrs: { epsilon: F(0.1), momentum: F(0.5) }, in: ['T[2,3,4]', ...n3] },
  { op: 'BatchNormalization', until: 8, attrs: { spatial: 1 }, in: ['T[2,3,4]', ...n3] },
  { op: 'BatchNormalization', until: 8, attrs: { spatial: 0 }, in: ['T[2,3,2]', 'T[3,2]', 'T[3,2]', 'T[3,2]', 'T[3,2] 0.5..2'] },
  { op: 'BatchNormalization', since: 15, name: 'mixed', types: ['f16'], in: ['T[2,3,4]', 'f16[3]', 'f16[3]', 'f32[3]', 'f32[3] 0.5..2'] },
  ...by([{}, { epsilon: F(0.1) }], (attrs) => ({ op: 'InstanceNormalization', types: floats, attrs, in: ['T[2,3,4,5]', 'T[3]', 'T[3]'] })),
  { op: 'InstanceNormalization', in: ['T[2,3,7]', 'T[3]', 'T[3]'] },
  ...by([{}, { axis: 1 }, { axis: -2, epsilon: F(0.01) }, { axis: 0 }], (attrs) => {
    const s = [2, 3, 4].slice(attrs.axis ?? -1).join();
    return [
      { op: 'LayerNormalization', types: floats, attrs, in: ['T[2,3,4]', `T[${s}]`, `T[${s}]`] },
      { op: 'LayerNormalization', attrs, name: `stats${attrs.axis ?? ''}`, outs: ['T', 'f32', 'f32'], in: ['T[2,3,4]', `T[${s}]`] },
      { op: 'RMSNormalization', types: floats, attrs, in: ['T[2,3,4]', `T[${s}]`] },
    ];
  }).flat(),
  { op: 'LayerNormalization', attrs: { axis: 1 }, name: 'broadcast', in: ['T[2,3,4]', 'T[4]', 'T[4]'] },
  { op: 'GroupNormalization', until: 20, types: floats, attrs: { num_groups: 2 }, in: ['T[2,4,3,3]', 'T[2]', 'T[2]'] },
  { op: 'GroupNormalization', since: 21, types: floats, attrs: { num_groups: 2 }, in: ['T[2,4,3,3]', 'T[4]', 'T[4]'] },
  { op: 'GroupNormalization', since: 21, attrs: { num_groups: 4, epsilon: F(0.1) }, in: ['T[2,4,5]', 'T[4]', 'T[4]'] },
  ...by([{}, { axes: [0, 2] }, { axes: [-1] }], (attrs) => ({ op: 'MeanVarianceNormalization', types: floats, attrs, in: ['T[2,3,4,5]'] })),
  ...by([{}, { p: 1 }, { axis: 0 }, { axis: 1, p: 2 }], (attrs) => ({ op: 'LpNormalization', types: floats, attrs, in: ['T[3,4,5]'] })),
  { op: 'LpNormalization', name: 'zero', in: ['T[2,3]=0,0,0,1,2,2'] },
  ...by([{ size: 3 }, { size: 5, alpha: F(0.1), beta: F(0.5), bias: F(2) }, { size: 2, alpha: F(1) }, { size: 4, alpha: F(1) }], (attrs) => ({ op: 'LRN', types: ['f32', 'f16', 'f64'], attrs, in: ['T[2,6,3,4]'] })),
];

const losses = by(['NegativeLogLikelihoodLoss', 'SoftmaxCrossEntropyLoss'], (op) => by(['none', 'mean', 'sum'], (reduction) => [
  { op, attrs: { reduction }, types: ['f32', 'f64'], in: ['T[3,5]', 'i64[3] 0..4'] },
  { op, attrs: { reduction, ignore_index: 1 }, in: ['T[3,5,2]', 'i64[3,2] 0..4', 'T[5] 0.1..2'] },
  { op, attrs: { reduction }, in: ['T[2,5,2,3]', 'i32[2,2,3] 0..4', 'T[5] 0.1..2'] },
  { op, since: 13, name: `ignored-${reduction}`, attrs: { reduction, ignore_index: -1 }, in: ['T[3,5]', 'i64[3]=-1,2,-1'] },
])).flat(2);
losses.push({ op: 'SoftmaxCrossEntropyLoss', name: 'log-prob', outs: ['T', 'T'], in: ['T[3,5,2]', 'i64[3,2] 0..4'] });

export default [...reductions, ...ordered, ...softmaxes, ...norms, ...losses];
