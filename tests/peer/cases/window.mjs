// Convolutions, pools, products.
import { F } from '../onnx.mjs';

const floats = ['f32', 'f16', 'f64'];
const two = ['f32', 'f64'];

const convs = [
  ...[{}, { kernel_shape: [3] }, { pads: [1, 2] }, { strides: [2] }, { dilations: [2] }, { auto_pad: 'SAME_UPPER', strides: [2] }, { auto_pad: 'SAME_LOWER', strides: [2] }, { auto_pad: 'VALID' }, { auto_pad: 'SAME_UPPER' }, { auto_pad: 'SAME_LOWER' }].map((attrs) => ({ op: 'Conv', attrs, in: ['T[2,3,10]', 'T[4,3,3]', 'T[4]'] })),
  ...[{}, { pads: [1, 1, 1, 1] }, { pads: [0, 1, 2, 3] }, { strides: [2, 3] }, { dilations: [2, 1] }, { dilations: [2, 2], strides: [2, 1], pads: [2, 2, 1, 1] }, { auto_pad: 'SAME_UPPER', strides: [2, 2] }, { auto_pad: 'SAME_LOWER', strides: [2, 2] }, { auto_pad: 'SAME_LOWER' }, { auto_pad: 'SAME_UPPER' }, { auto_pad: 'NOTSET', pads: [1, 0, 1, 0] }].flatMap((attrs) => [
    { op: 'Conv', attrs, types: attrs.pads ? floats : ['f32'], in: ['T[2,3,8,9]', 'T[4,3,3,3]', 'T[4]'] },
    { op: 'Conv', attrs, in: ['T[1,4,8,7]', 'T[4,4,2,3]'] },
  ]),
  { op: 'Conv', attrs: { group: 2, pads: [1, 1, 1, 1] }, types: floats, in: ['T[2,4,5,6]', 'T[6,2,3,3]', 'T[6]'] },
  { op: 'Conv', attrs: { group: 4, pads: [1, 1, 1, 1], strides: [2, 2] }, in: ['T[2,4,5,6]', 'T[4,1,3,3]', 'T[4]'] },
  { op: 'Conv', attrs: { group: 4 }, in: ['T[2,4,5,6]', 'T[8,1,3,3]'] },
  { op: 'Conv', attrs: { group: 32, pads: [1, 1, 1, 1] }, in: ['T[1,32,9,9]', 'T[32,1,3,3]', 'T[32]'] },
  { op: 'Conv', name: '1x1', in: ['T[2,16,5,6]', 'T[24,16,1,1]', 'T[24]'] },
  { op: 'Conv', attrs: { strides: [2, 2] }, name: '1x1s', in: ['T[2,16,5,6]', 'T[24,16,1,1]', 'T[24]'] },
  { op: 'Conv', attrs: { pads: [1, 1, 1, 1] }, name: 'wide', in: ['T[1,20,14,14]', 'T[36,20,3,3]', 'T[36]'] },
  ...[{}, { pads: [1, 0, 1, 1, 2, 0] }, { strides: [2, 1, 2], dilations: [1, 2, 1] }, { auto_pad: 'SAME_UPPER', strides: [2, 2, 2] }].map((attrs) => ({ op: 'Conv', attrs, in: ['T[1,2,5,6,7]', 'T[3,2,2,3,3]', 'T[3]'] })),
  { op: 'Conv', attrs: { group: 2 }, in: ['T[1,4,4,4,4]', 'T[4,2,2,2,2]'] },
  { op: 'Conv', name: 'empty-batch', in: ['T[0,3,5,5]', 'T[4,3,3,3]'] },
  ...[{}, { strides: [2] }, { pads: [1, 2], strides: [3] }, { output_padding: [1], strides: [2] }, { dilations: [2] }, { output_shape: [22], strides: [2] }].map((attrs) => ({ op: 'ConvTranspose', attrs, in: ['T[2,3,10]', 'T[3,4,3]', 'T[4]'] })),
  ...[{}, { strides: [2, 2] }, { strides: [2, 3], pads: [1, 0, 1, 2] }, { strides: [2, 2], output_padding: [1, 1], pads: [1, 1, 1, 1] }, { dilations: [2, 1] }, { output_shape: [10, 11], strides: [2, 2] }, { output_shape: [9, 10], strides: [2, 2], auto_pad: 'SAME_UPPER' }, { output_shape: [9, 10], strides: [2, 2], auto_pad: 'SAME_LOWER' }, { auto_pad: 'SAME_UPPER', strides: [2, 2] }, { auto_pad: 'SAME_LOWER', strides: [2, 2] }, { auto_pad: 'VALID', strides: [2, 2] }, { auto_pad: 'SAME_UPPER', strides: [3, 3] }].map((attrs) => ({ op: 'ConvTranspose', attrs, types: attrs.strides ? ['f32'] : floats, in: ['T[2,3,4,5]', 'T[3,2,3,3]', 'T[2]'] })),
  { op: 'ConvTranspose', attrs: { group: 2, strides: [2, 2] }, in: ['T[1,4,3,4]', 'T[4,3,3,3]', 'T[6]'] },
  { op: 'ConvTranspose', attrs: { group: 4, strides: [2, 2] }, in: ['T[1,4,3,4]', 'T[4,1,2,2]'] },
  ...[{}, { strides: [2, 2, 2] }, { pads: [1, 1, 0, 0, 1, 1], strides: [1, 2, 2] }].map((attrs) => ({ op: 'ConvTranspose', attrs, in: ['T[1,2,3,4,3]', 'T[2,3,2,3,3]', 'T[3]'] })),
];

const window2 = [{}, { strides: [2, 2] }, { pads: [1, 1, 1, 1] }, { pads: [0, 1, 1, 0], strides: [2, 1] }, { auto_pad: 'SAME_UPPER', strides: [2, 2] }, { auto_pad: 'SAME_LOWER', strides: [2, 2] }, { auto_pad: 'SAME_LOWER' }, { auto_pad: 'VALID', strides: [2, 2] }];
const pools = [
  ...window2.flatMap((attrs) => [
    { op: 'MaxPool', attrs: { kernel_shape: [3, 2], ...attrs }, types: attrs.pads ? floats : ['f32'], in: ['T[2,3,7,8]'] },
    { op: 'MaxPool', since: 8, attrs: { kernel_shape: [2, 3], ...attrs }, name: `indices-${Object.entries(attrs).join('-')}`, outs: ['T', 'i64'], in: ['T[2,3,7,8]'] },
    { op: 'AveragePool', attrs: { kernel_shape: [3, 2], ...attrs }, types: attrs.pads ? floats : ['f32'], in: ['T[2,3,7,8]'] },
    { op: 'AveragePool', attrs: { kernel_shape: [3, 2], count_include_pad: 1, ...attrs }, in: ['T[2,3,7,8]'] },
    { op: 'LpPool', attrs: { kernel_shape: [3, 2], ...attrs }, in: ['T[2,3,7,8]'] },
    { op: 'LpPool', attrs: { kernel_shape: [2, 2], p: 1, ...attrs }, in: ['T[2,3,7,8]'] },
  ]),
  ...[{ strides: [2, 2] }, { strides: [3, 3], pads: [1, 1, 1, 1] }, { strides: [2, 3], pads: [0, 1, 1, 0] }, { strides: [4, 4], pads: [0, 0, 1, 1] }].flatMap((attrs) => [
    { op: 'MaxPool', since: 10, attrs: { kernel_shape: [3, 3], ceil_mode: 1, ...attrs }, outs: ['T', 'i64'], in: ['T[1,2,8,9]'] },
    { op: 'AveragePool', since: 10, attrs: { kernel_shape: [3, 3], ceil_mode: 1, ...attrs }, in: ['T[1,2,8,9]'] },
    { op: 'AveragePool', since: 10, attrs: { kernel_shape: [3, 3], ceil_mode: 1, count_include_pad: 1, ...attrs }, in: ['T[1,2,8,9]'] },
    { op: 'LpPool', since: 18, attrs: { kernel_shape: [3, 3], ceil_mode: 1, ...attrs }, in: ['T[1,2,8,9]'] },
  ]),
  ...[{ dilations: [2, 2] }, { dilations: [2, 1], strides: [2, 2], pads: [1, 1, 1, 1] }, { dilations: [1, 3], ceil_mode: 1, strides: [2, 2] }].flatMap((attrs) => [
    { op: 'MaxPool', since: 10, attrs: { kernel_shape: [3, 2], ...attrs }, outs: ['T', 'i64'], in: ['T[1,2,8,9]'] },
    { op: 'AveragePool', since: 19, attrs: { kernel_shape: [3, 2], ...attrs }, in: ['T[1,2,8,9]'] },
    { op: 'AveragePool', since: 19, attrs: { kernel_shape: [3, 2], count_include_pad: 1, ...attrs }, in: ['T[1,2,8,9]'] },
    { op: 'LpPool', since: 18, attrs: { kernel_shape: [3, 2], ...attrs }, in: ['T[1,2,8,9]'] },
  ]),
  { op: 'MaxPool', since: 8, attrs: { kernel_shape: [2, 2], storage_order: 1 }, outs: ['T', 'i64'], in: ['T[2,2,4,5]'] },
  { op: 'MaxPool', since: 12, types: ['i8', 'u8'], attrs: { kernel_shape: [2, 2], pads: [1, 0, 0, 1] }, in: ['T[2,2,4,5]'] },
  ...['MaxPool', 'AveragePool', 'LpPool'].flatMap((op) => [
    { op, attrs: { kernel_shape: [3], strides: [2], pads: [1, 1] }, in: ['T[2,3,9]'] },
    { op, attrs: { kernel_shape: [2, 3, 2], strides: [1, 2, 2], pads: [0, 1, 1, 1, 1, 0] }, in: ['T[1,2,5,6,5]'] },
    { op, attrs: { kernel_shape: [2, 3, 2], auto_pad: 'SAME_UPPER' }, in: ['T[1,2,5,6,5]'] },
  ]),
  ...'GlobalAveragePool GlobalMaxPool GlobalLpPool'.split(' ').flatMap((op) => ['2,3,4,5', '2,3,6', '1,2,3,4,2'].map((s) => ({ op, types: floats, in: [`T[${s}]`] }))),
  { op: 'GlobalLpPool', attrs: { p: 3 }, in: ['T[2,3,4,5] 0.1..2'] }, { op: 'GlobalLpPool', attrs: { p: 1 }, in: ['T[2,3,4,5]'] },
  { op: 'LpPool', attrs: { p: 3, kernel_shape: [2, 2] }, in: ['T[2,3,4,5]'] },
  { op: 'MaxUnpool', attrs: { kernel_shape: [2, 2], strides: [2, 2] }, in: ['T[1,1,2,2]', 'i64[1,1,2,2]=5,7,13,15'] },
  { op: 'MaxUnpool', attrs: { kernel_shape: [2, 2], strides: [2, 2] }, name: 'shape', in: ['T[1,1,2,2]', 'i64[1,1,2,2]=5,7,13,15', 'i64[4]=1,1,5,5'] },
  ...['MaxRoiPool'].flatMap((op) => [{}, { spatial_scale: 0.5 }].map((attrs) => ({ op, attrs: { pooled_shape: [2, 2], ...attrs }, in: ['T[1,2,6,6]', 'T[2,5]=0,0,0,3,3,0,1,1,5,4'] }))),
];

const products = [
  ...[['3,4', '4,5'], ['2,3,4', '4,5'], ['2,3,4', '2,4,5'], ['2,1,3,4', '5,4,2'], ['4', '4,5'], ['3,4', '4'], ['4', '4'], ['2,3,4', '4'], ['4', '2,4,3'], ['0,4', '4,3'], ['2,0', '0,3'], ['1,1,33', '33,17']].map(([a, b]) => ({ op: 'MatMul', types: ['f32', 'f64', 'f16'], in: [`T[${a}]`, `T[${b}]`] })),
  { op: 'MatMul', since: 9, types: ['i32', 'u32', 'i64', 'u64'], in: ['T[2,3,4]', 'T[4,5]'] },
  ...[{}, { transA: 1 }, { transB: 1 }, { transA: 1, transB: 1, alpha: F(0.5), beta: F(2) }].flatMap((attrs) => ['3,5', '5', '3,1', '1,5', '1', ''].map((c) => ({ op: 'Gemm', attrs, types: c === '5' ? floats : ['f32'], in: [attrs.transA ? 'T[4,3]' : 'T[3,4]', attrs.transB ? 'T[5,4]' : 'T[4,5]', `T[${c}]`] }))),
  { op: 'Gemm', since: 11, name: 'no-c', types: floats, attrs: { alpha: F(2) }, in: ['T[3,4]', 'T[4,5]'] },
  { op: 'Gemm', since: 9, types: ['i32', 'i64', 'u32', 'u64'], in: ['T[3,4]', 'T[4,5]', 'T[5]'] },
  ...[['ij,jk->ik', '3,4', '4,5'], ['ij,jk', '3,4', '4,5'], ['bij,bjk->bik', '2,3,4', '2,4,5'], ['...ij,...jk->...ik', '2,3,4', '2,4,5'], ['i,j->ij', '3', '4'], ['ij,ij->', '3,4', '3,4'], ['bhqd,bhkd->bhqk', '2,2,3,4', '2,2,5,4'], ['ij,kj->ki', '3,4', '5,4'], ['...i,i->...', '2,3,4', '4'], ['bi,ij,bj->b', '2,3', '3,4', '2,4']].map(([equation, ...s]) => ({ op: 'Einsum', attrs: { equation }, types: ['f32', 'f64', 'i64'], in: s.map((x) => `T[${x}]`) })),
  ...[['ij->ji', '3,4'], ['ii->i', '3,3'], ['ii', '3,3'], ['ij->', '3,4'], ['...j->...', '2,3,4'], ['bij->bj', '2,3,4']].map(([equation, s]) => ({ op: 'Einsum', attrs: { equation }, in: [`T[${s}]`] })),
  ...['1,3,3', '3,3', '2,2,4,4', '1,1'].map((s) => ({ op: 'Det', types: two, in: [`T[${s}]`] })),
];

export default [...convs, ...pools, ...products];
