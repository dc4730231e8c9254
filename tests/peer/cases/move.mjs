// Operators that move elements: shapes, slices, gathers, scatters, pads.
import { F, T } from '../onnx.mjs';

const floats = ['f32', 'f16', 'f64'];
const every = [...floats, 'i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64', 'bool'];
const few = ['f32', 'f16', 'i64', 'u8'];
const ints = (...v) => `i64[${v.length}]${v.length ? `=${v}` : ''}`;

const shapes = [
  { op: 'Shape', types: every, outs: ['i64'], in: ['T[2,0,3]'] },
  { op: 'Shape', name: 'scalar', outs: ['i64'], in: ['T[]'] },
  ...[{ start: 1 }, { end: -1 }, { start: -2, end: 3 }, { start: 2, end: 1 }, { start: -9, end: 9 }].map((attrs) => ({ op: 'Shape', since: 15, attrs, outs: ['i64'], in: ['T[2,3,4]'] })),
  { op: 'Size', types: few, outs: ['i64'], in: ['T[2,3,4]'] }, { op: 'Size', outs: ['i64'], in: ['T[]'] }, { op: 'Size', outs: ['i64'], in: ['T[2,0]'] },
  { op: 'Reshape', types: every, name: 'plain', in: ['T[2,3,4]', ints(4, 6)] },
  ...[[0, -1], [-1], [2, 0, 2, 2], [0, 0, 2, -1], [1, 24, 1]].map((s) => ({ op: 'Reshape', name: `to-${s.join('x')}`, in: ['T[2,3,4]', ints(...s)] })),
  { op: 'Reshape', name: 'to-scalar', in: ['T[1,1]', ints()] },
  { op: 'Reshape', name: 'empty', in: ['T[0,3]', ints(0, 3)] },
  { op: 'Reshape', since: 14, attrs: { allowzero: 1 }, in: ['T[0,3]', ints(3, 0)] },
  ...[0, 1, 2, 3].map((axis) => ({ op: 'Flatten', attrs: { axis }, types: axis === 1 ? few : ['f32'], in: ['T[2,3,4]'] })),
  ...[-1, -3].map((axis) => ({ op: 'Flatten', since: 11, attrs: { axis }, in: ['T[2,3,4]'] })),
  { op: 'Flatten', name: 'empty', in: ['T[2,0,4]'] },
  ...[[0], [0, 3], [2], [0, 2, 3]].flatMap((axes) => [
    { op: 'Squeeze', until: 12, attrs: { axes }, types: few, in: ['T[1,3,1,1]'] },
    { op: 'Squeeze', since: 13, name: `axes=${axes}`, types: few, in: ['T[1,3,1,1]', ints(...axes)] },
    { op: 'Unsqueeze', until: 12, attrs: { axes }, types: few, in: ['T[2,3]'] },
    { op: 'Unsqueeze', since: 13, name: `axes=${axes}`, types: few, in: ['T[2,3]', ints(...axes)] },
  ]),
  { op: 'Squeeze', name: 'all', in: ['T[1,3,1,1]'] },
  { op: 'Squeeze', since: 13, name: 'negative', in: ['T[1,3,1,1]', ints(-1, -4)] },
  { op: 'Squeeze', opsets: [11, 12], attrs: { axes: [-1] }, in: ['T[1,3,1,1]'] },
  { op: 'Unsqueeze', opsets: [11, 12], attrs: { axes: [-1, 0] }, in: ['T[2,3]'] },
  { op: 'Unsqueeze', since: 13, name: 'negative', in: ['T[2,3]', ints(-1, -3)] },
  { op: 'Unsqueeze', since: 13, name: 'scalar', in: ['T[]', ints(0)] },
  ...[[3, 1, 4], [2, 1, 5], [1], [2, 3, 1, 4]].map((s) => ({ op: 'Expand', name: `to-${s.join('x')}`, types: s.length === 1 ? every : ['f32'], in: ['T[3,1]', ints(...s)] })),
  { op: 'Expand', name: 'scalar', in: ['T[]', ints(2, 3)] },
  { op: 'Expand', name: 'to-none', in: ['T[1,3]', ints(0, 3)] },
  ...['f32', 'f64', 'i16', 'i32', 'i64'].flatMap((t) => [['1', '9', '2'], ['9', '1', '-3'], ['0', '0', '1'], ['5', '1', '1'], ['1', '10', '4']].map(([a, b, c]) => ({ op: 'Range', types: [t], name: `${a}-${b}-${c}`, in: [`T[]=${a}`, `T[]=${b}`, `T[]=${c}`] }))),
  { op: 'Range', name: 'fractions', in: ['T[]=0.5', 'T[]=2.6', 'T[]=0.3'] },
  ...[undefined, T('f32', [1], [2.5]), T('i64', [1], [-7]), T('f16', [1], [1.5]), T('bool', [1], [1]), T('u8', [1], [9]), T('f64', [1], [0.1])].map((value) => ({ op: 'ConstantOfShape', name: value?.tensor.type ?? 'default', attrs: value ? { value } : {}, outs: [value?.tensor.type ?? 'f32'], in: [ints(2, 3)] })),
  { op: 'ConstantOfShape', name: 'scalar', in: [ints()] }, { op: 'ConstantOfShape', name: 'none', in: [ints(2, 0)] },
  { op: 'EyeLike', types: ['f32', 'f64', 'i32', 'i64'], in: ['T[3,4]'] },
  ...[{ k: 1 }, { k: -2, dtype: 7 }, { dtype: 11 }, { k: 9 }].map((attrs) => ({ op: 'EyeLike', attrs, outs: [{ 7: 'i64', 11: 'f64' }[attrs.dtype] ?? 'f32'], in: ['T[3,4]'] })),
  { op: 'Dropout', until: 11, types: floats, attrs: { ratio: F(0.3) }, in: ['T[3,4]'] },
  { op: 'Dropout', opsets: [10, 11], name: 'mask', outs: ['T', 'bool'], attrs: { ratio: F(0.3) }, in: ['T[3,4]'] },
  { op: 'Dropout', since: 12, types: floats, outs: ['T', 'bool'], in: ['T[3,4]', 'f32[]=0.3'] },
  { op: 'Dropout', since: 12, name: 'inference', outs: ['T', 'bool'], in: ['T[3,4]', 'f32[]=0.3', 'bool[]=0'] },
];

const moves = [
  { op: 'Transpose', types: every, in: ['T[2,3,4]'] },
  ...[[1, 0, 2], [0, 2, 1], [2, 0, 1]].map((perm) => ({ op: 'Transpose', attrs: { perm }, types: few, in: ['T[2,3,4]'] })),
  ...[[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [1, 0, 3, 2]].map((perm) => ({ op: 'Transpose', attrs: { perm }, in: ['T[2,3,4,5]'] })),
  { op: 'Transpose', name: 'scalar', in: ['T[]'] }, { op: 'Transpose', name: 'empty', in: ['T[2,0,3]'] },
  ...[0, 1, 2].map((axis) => ({ op: 'Concat', attrs: { axis }, types: axis ? ['f32'] : every, in: ['T[2,3,4]', 'T[2,3,4]', 'T[2,3,4]'] })),
  ...[-1, -3].map((axis) => ({ op: 'Concat', since: 11, attrs: { axis }, in: ['T[2,3,4]', 'T[2,3,4]'] })),
  { op: 'Concat', attrs: { axis: 1 }, name: 'uneven', in: ['T[2,1]', 'T[2,0]', 'T[2,4]'] },
  { op: 'Concat', attrs: { axis: 0 }, name: 'one', in: ['T[2,1]'] },
  ...[0, 1, 2].map((axis) => ({ op: 'Split', until: 12, attrs: { axis }, types: few, outs: ['T', 'T'], in: ['T[4,2,6]'] })),
  { op: 'Split', until: 12, attrs: { axis: 2, split: [1, 2, 3] }, outs: ['T', 'T', 'T'], in: ['T[4,2,6]'] },
  { op: 'Split', opsets: [11, 12], attrs: { axis: -1, split: [1, 2, 3] }, outs: ['T', 'T', 'T'], in: ['T[4,2,6]'] },
  { op: 'Split', since: 13, name: 'sizes', attrs: { axis: -1 }, types: every, outs: ['T', 'T', 'T'], in: ['T[4,2,6]', ints(1, 2, 3)] },
  { op: 'Split', since: 13, name: 'zero', attrs: { axis: 0 }, outs: ['T', 'T'], in: ['T[4,2]', ints(0, 4)] },
  { op: 'Split', since: 13, until: 17, name: 'equal', attrs: { axis: 2 }, outs: ['T', 'T'], in: ['T[4,2,6]'] },
  { op: 'Split', since: 18, attrs: { axis: 2, num_outputs: 2 }, outs: ['T', 'T'], in: ['T[4,2,6]'] },
  { op: 'Split', since: 18, attrs: { axis: 2, num_outputs: 4 }, outs: ['T', 'T', 'T', 'T'], in: ['T[4,2,7]'] },
  ...[{ axes: [0, 2], starts: [1, -3], ends: [9, -1] }, { starts: [0, 1], ends: [2, 3] }, { axes: [1], starts: [5], ends: [9] }].map((attrs) => ({ op: 'Slice', until: 9, attrs, types: few, in: ['T[4,3,5]'] })),
  ...[[[1, -3], [9, -1], [0, 2]], [[0, 1], [2, 3]], [[5], [9], [1]], [[0, 4], [9, 0], [0, 2], [2, -1]], [[-1, 99], [-99, -99], [-1, 0], [-1, -2]], [[1], ['9223372036854775807'], [-1]], [[3], ['-9223372036854775808'], [0], [-1]], [[2, 0], [2, 9], [0, 1]]].map((v, i) => ({ op: 'Slice', since: 10, name: `s${i}`, types: i === 0 ? every : ['f32'], in: ['T[4,3,5]', ...v.map((x) => `i64[${x.length}]=${x.map((n) => (n === '9223372036854775807' ? 9e18 : n === '-9223372036854775808' ? -9e18 : n))}`)] })),
  { op: 'Slice', since: 10, name: 'i32', in: ['T[4,3,5]', 'i32[2]=1,0', 'i32[2]=3,9', 'i32[2]=2,0', 'i32[2]=1,2'] },
  { op: 'Tile', types: every, name: 'plain', in: ['T[2,3]', ints(2, 3)] },
  { op: 'Tile', name: 'one', in: ['T[2,3,2]', ints(1, 1, 2)] }, { op: 'Tile', name: 'none', in: ['T[2,3]', ints(0, 1)] }, { op: 'Tile', name: 'scalar', in: ['T[]', ints()] },
  { op: 'DepthToSpace', attrs: { blocksize: 2 }, types: floats, in: ['T[2,8,2,3]'] },
  ...['DCR', 'CRD'].map((mode) => ({ op: 'DepthToSpace', since: 11, attrs: { blocksize: 2, mode }, in: ['T[2,8,2,3]'] })),
  { op: 'SpaceToDepth', attrs: { blocksize: 2 }, types: floats, in: ['T[2,3,4,6]'] },
  { op: 'SpaceToDepth', attrs: { blocksize: 3 }, in: ['T[1,2,6,3]'] },
  ...[{}, { upper: 0 }].flatMap((attrs) => [undefined, 1, -1, -9, 9].map((k) => ({ op: 'Trilu', name: `${attrs.upper ?? 1}-${k}`, attrs, types: k === 1 ? ['f32', 'f64', 'i64', 'i32', 'bool'] : ['f32'], in: k === undefined ? ['T[2,3,4]'] : ['T[2,4,3]', `i64[]=${k}`] }))),
  ...[{ time_axis: 0, batch_axis: 1 }, { time_axis: 1, batch_axis: 0 }].map((attrs) => ({ op: 'ReverseSequence', attrs, types: few, in: ['T[4,4,2]', ints(1, 2, 3, 4)] })),
  ...[{ axis: 0 }, { axis: 1 }, { axis: -1 }, {}].map((attrs) => ({ op: 'Compress', since: attrs.axis < 0 ? 11 : 9, attrs, types: few, in: ['T[3,4]', 'bool[3]=1,0,1'] })),
  { op: 'CenterCropPad', types: few, in: ['T[5,4,3]', ints(3, 6, 3)] },
  { op: 'CenterCropPad', attrs: { axes: [1, -1] }, in: ['T[5,4,3]', ints(7, 2)] },
];

const indexed = [
  ...[0, 1, 2, -1].flatMap((axis) => [
    { op: 'Gather', attrs: { axis }, types: axis ? ['f32'] : every, in: ['T[3,4,3]', 'i64[2,2] 0..2'] },
    { op: 'Gather', attrs: { axis }, name: `scalar${axis}`, in: ['T[3,4,3]', 'i32[]=1'] },
  ]),
  { op: 'Gather', since: 11, name: 'negative', in: ['T[3,4]', 'i64[4]=-1,-3,0,2'] },
  { op: 'Gather', name: 'none', in: ['T[3,4]', 'i64[0]'] },
  ...[0, 1, -1].map((axis) => ({ op: 'GatherElements', attrs: { axis }, types: axis ? ['f32'] : every, in: ['T[3,4]', 'i64[2,3] -3..2'] })),
  ...[[[2, 3, 4], 'i64[2,2] 0..1'], [[2, 3, 4], 'i64[3,1] -2..1'], [[2, 3, 4], 'i64[2,2,3] 0..1'], [[2, 3, 4], 'i64[3]=1,2,-1']].map(([s, i]) => ({ op: 'GatherND', types: few, in: [`T[${s}]`, i] })),
  { op: 'GatherND', since: 12, attrs: { batch_dims: 1 }, in: ['T[2,3,4]', 'i64[2,5,1] 0..2'] },
  { op: 'GatherND', since: 12, attrs: { batch_dims: 2 }, in: ['T[2,3,4]', 'i64[2,3,1] 0..3'] },
  { op: 'Scatter', opsets: [9, 10], attrs: { axis: 1 }, types: few, in: ['T[3,4]', 'i64[2,2]=0,3,1,2', 'T[2,2]'] },
  ...[0, 1, -1].map((axis) => ({ op: 'ScatterElements', attrs: { axis }, types: axis ? ['f32'] : every, in: ['T[3,4]', 'i64[2,2]=0,-1,1,2', 'T[2,2]'] })),
  ...['add', 'mul', 'max', 'min'].flatMap((reduction) => [
    { op: 'ScatterElements', since: reduction.startsWith('m') && reduction !== 'mul' ? 18 : 16, attrs: { axis: 1, reduction }, types: ['f32', 'f64', 'i64', 'i32', 'f16', 'u8'], in: ['T[3,4] 1..3', 'i64[3,3]=0,0,1,1,1,1,2,3,2', 'T[3,3] 1..3'] },
    { op: 'ScatterND', since: reduction.startsWith('m') && reduction !== 'mul' ? 18 : 16, attrs: { reduction }, types: ['f32', 'f64', 'i64', 'i32'], in: ['T[4,3] 1..3', 'i64[3,1]=1,1,3', 'T[3,3] 1..3'] },
  ]),
  { op: 'ScatterND', types: every, in: ['T[4,3,2]', 'i64[2,1]=0,-1', 'T[2,3,2]'] },
  { op: 'ScatterND', in: ['T[4,3,2]', 'i64[2,2,3]=0,0,0,1,1,1,3,2,1,2,0,1', 'T[2,2]'] },
  ...[{}, { axis: 0 }, { axis: 1 }, { axis: -2 }].flatMap((attrs) => [
    { op: 'OneHot', attrs, in: ['i64[2,3] -5..4', 'i64[]=5', 'f32[2]=0.5,2'] },
    { op: 'OneHot', attrs, types: ['i64'], in: ['i32[2,3] 0..4', 'i64[1]=4', 'T[2]=0,1'] },
  ]),
  { op: 'OneHot', name: 'outside', in: ['i64[3]=-9,2,7', 'i64[]=5', 'f32[2]=0,1'] },
];

const pads = [
  ...['constant', 'reflect', 'edge'].flatMap((mode) => [
    { op: 'Pad', until: 10, types: floats, attrs: { mode, pads: [0, 1, 2, 0, 2, 1] }, in: ['T[2,3,4]'] },
    { op: 'Pad', since: 11, name: mode, attrs: { mode }, types: mode === 'constant' ? every : few, in: ['T[2,3,4]', ints(0, 1, 2, 0, 2, 1)] },
    { op: 'Pad', since: 11, name: `${mode}-4d`, attrs: { mode }, in: ['T[1,2,5,4]', ints(0, 0, 2, 1, 0, 0, 3, 2)] },
    { op: 'Pad', since: 11, name: `${mode}-crop`, attrs: { mode }, in: ['T[2,5,6]', ints(0, -1, 2, 0, 1, -2)] },
    { op: 'Pad', since: 18, name: `${mode}-axes`, attrs: { mode }, in: ['T[2,3,4]', ints(1, 2, 0, 1), '', ints(-1, 1)] },
  ]),
  { op: 'Pad', since: 19, attrs: { mode: 'wrap' }, in: ['T[2,3,4]', ints(0, 1, 2, 0, 2, 1)] },
  { op: 'Pad', until: 10, attrs: { value: F(1.5), pads: [1, 0, 0, 2] }, in: ['T[2,3]'] },
  { op: 'Pad', until: 10, attrs: { pads: [-1, 0, 0, -1] }, in: ['T[2,3]'] },
  { op: 'Pad', since: 11, name: 'value', types: few, in: ['T[2,3]', ints(1, 0, 0, 2), 'T[]=7'] },
  { op: 'Pad', since: 11, name: 'empty', in: ['T[0,3]', ints(1, 0, 1, 2), 'T[]=7'] },
  { op: 'Pad', since: 11, name: 'nothing', in: ['T[2,3]', ints(0, 0, 0, 0)] },
];

export default [...shapes, ...moves, ...indexed, ...pads];
