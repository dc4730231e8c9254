// Pointwise operators: unary, binary, variadic, logic, casts.
import { F, Fs } from '../onnx.mjs';

const floats = ['f32', 'f16', 'f64'];
const ints = ['i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64'];
const signed = ['i8', 'i16', 'i32', 'i64'];
const unsigned = ['u8', 'u16', 'u32', 'u64'];
const numbers = [...floats, ...ints];
const every = [...numbers, 'bool'];
const each = (ops, row) => ops.split(' ').map((op) => ({ op, ...row }));

const unary = [
  ...each('Sqrt Log', { types: floats, in: ['T[2,3,5] 0.01..9'] }),
  ...each('Exp Reciprocal Floor Ceil Erf Sin Cos Tan Atan Sinh Cosh Tanh Asinh Sigmoid Softplus Softsign HardSwish Mish Elu Selu HardSigmoid LeakyRelu ThresholdedRelu Celu Gelu Round', { types: floats, in: ['T[2,3,5] -3..3'] }),
  ...each('Exp Sigmoid Tanh Softplus Erf Mish HardSwish Gelu Softsign', { name: 'edges', in: ['T[10]=-inf,inf,nan,-90,90,-20,20,0,1e-8,-1e-8'] }),
  ...each('Sqrt Log Floor Ceil Round Sin Asinh', { name: 'edges', in: ['T[10]=-inf,inf,nan,-1.5,2.5,-2.5,0.5,0,1e-8,-0.5'] }),
  ...each('Asin Acos Atanh', { types: floats, in: ['T[2,3,5] -0.95..0.95'] }),
  { op: 'Acosh', types: floats, in: ['T[2,3,5] 1.1..9'] },
  ...each('Abs Neg Sign', { types: [...floats, ...signed], in: ['T[2,3,5]'] }),
  ...each('Abs Sign', { types: unsigned, in: ['T[2,3,5]'] }),
  ...each('Abs Neg Relu Sigmoid Exp', { name: 'scalar', in: ['T[]=-1.5'] }),
  ...each('Abs Relu Tanh', { name: 'empty', in: ['T[2,0,3]='.replace('=', '')] }),
  ...each('Relu', { types: [...floats, ...signed], in: ['T[2,3,5]'] }),
  ...each('Elu Celu LeakyRelu ThresholdedRelu', { types: floats, attrs: { alpha: F(0.3) }, in: ['T[4,9]'] }),
  { op: 'ThresholdedRelu', attrs: { alpha: F(-0.5) }, in: ['T[4,9]'] },
  { op: 'LeakyRelu', attrs: { alpha: F(1.5) }, in: ['T[4,9]'] },
  { op: 'Selu', attrs: { alpha: F(2), gamma: F(3) }, in: ['T[4,9]'] },
  { op: 'HardSigmoid', attrs: { alpha: F(0.5), beta: F(0.6) }, in: ['T[4,9]'] },
  { op: 'Gelu', attrs: { approximate: 'tanh' }, types: floats, in: ['T[4,9]'] },
  { op: 'Gelu', attrs: { approximate: 'none' }, in: ['T[4,9]'] },
  { op: 'Shrink', types: numbers, in: ['T[4,9]'] },
  { op: 'Shrink', types: floats, attrs: { lambd: F(1.5), bias: F(0.5) }, in: ['T[4,9]'] },
  { op: 'Not', types: ['bool'], in: ['T[3,4]'] },
  { op: 'BitwiseNot', types: ints, in: ['T[3,4]'] },
  { op: 'IsNaN', types: floats, outs: ['bool'], in: ['T[5]=nan,1,inf,-inf,0'] },
  ...[{}, { detect_negative: 0 }, { detect_positive: 0 }, { detect_positive: 0, detect_negative: 0 }].map((attrs) => ({ op: 'IsInf', types: floats, attrs, outs: ['bool'], in: ['T[5]=nan,1,inf,-inf,0'] })),
  { op: 'Identity', types: every, in: ['T[2,0,3]'] },
  { op: 'Identity', types: every, in: ['T[2,3]'] },
  { op: 'Clip', until: 10, types: floats, attrs: { min: F(-1), max: F(0.5) }, in: ['T[4,9]'] },
  { op: 'Clip', until: 10, types: floats, attrs: { min: F(-1) }, in: ['T[4,9]'] },
  { op: 'Clip', until: 10, types: floats, in: ['T[4,9]'] },
  { op: 'Clip', since: 11, types: numbers, in: ['T[4,9]', 'T[]=1', 'T[]=2'] },
  { op: 'Clip', since: 11, types: numbers, name: 'max', in: ['T[4,9]', '', 'T[]=2'] },
  { op: 'Clip', since: 11, types: numbers, name: 'min', in: ['T[4,9]', 'T[]=1'] },
  { op: 'Clip', since: 11, types: floats, name: 'crossed', in: ['T[4,9]', 'T[]=2', 'T[]=-2'] },
  { op: 'Clip', since: 11, name: 'nan', in: ['T[4]=nan,inf,-inf,0', 'T[]=-2', 'T[]=2'] },
];

const shapes = [['2,3,4', '2,3,4'], ['2,3,4', '4'], ['4', '2,3,4'], ['2,1,4', '3,1'], ['1,5', '5,1'], ['', '2,3'], ['2,3', ''], ['', ''], ['1', ''], ['0,3', '1,3'], ['3,0', '1'], ['2,3,4,5', '3,1,1'], ['1,1,1,1', '2,3'], ['2,1,3,1,2', '1,4,1,5,1']];
const ranged = (T, lo, hi) => (s) => `${T}[${s}] ${lo}..${hi}`;
const pairs = (op, row, a, b = a, few) => (few ? [shapes[0], shapes[4]] : shapes).map(([p, q]) => ({ op, ...row, in: [a(p), b(q)] }));
const plain = (s) => `T[${s}]`;
const positive = ranged('T', 1, 6);

const binary = [
  ...'Add Sub Mul'.split(' ').flatMap((op) => [...pairs(op, {}, plain), ...pairs(op, { types: [...floats, ...signed] }, ranged('T', -5, 5), undefined, true)]),
  ...'Add Mul'.split(' ').flatMap((op) => pairs(op, { types: unsigned }, positive, positive, true)),
  ...pairs('Div', {}, plain, positive),
  ...pairs('Div', { types: numbers }, ranged('T', 1, 60), positive, true),
  ...pairs('Div', { types: signed }, ranged('T', -60, 60), ranged('T', -6, -1), true),
  ...pairs('Pow', { types: ['f32', 'f64', 'f16', 'i32', 'i64'] }, ranged('T', 1, 3), ranged('T', 0, 3), true),
  ...pairs('Pow', { since: 12, name: 'intexp' }, ranged('T', -3, 3), ranged('i64', -3, 3), true),
  ...pairs('Pow', { since: 12, name: 'floatexp', types: ['i32', 'i64'] }, ranged('T', 1, 5), ranged('f32', 0, 2), true),
  ...pairs('PRelu', { types: floats }, plain, plain, true),
  ...pairs('Mod', { types: ints }, ranged('T', 0, 60), positive, true),
  ...pairs('Mod', { types: signed }, ranged('T', -60, 60), ranged('T', -6, -1), true),
  ...pairs('Mod', { types: signed, attrs: { fmod: 1 } }, ranged('T', -60, 60), ranged('T', 2, 7), true),
  ...pairs('Mod', { types: floats, attrs: { fmod: 1 } }, ranged('T', -9, 9), ranged('T', 0.5, 3), true),
  ...'Equal Greater Less GreaterOrEqual LessOrEqual'.split(' ').flatMap((op) => [...pairs(op, { outs: ['bool'] }, plain), ...pairs(op, { types: numbers, outs: ['bool'] }, ranged('T', 0, 3), undefined, true)]),
  ...pairs('Equal', { types: ['bool', 'i32', 'i64'], outs: ['bool'] }, plain),
  ...'And Or Xor'.split(' ').flatMap((op) => pairs(op, { types: ['bool'] }, plain)),
  ...'BitwiseAnd BitwiseOr BitwiseXor'.split(' ').flatMap((op) => pairs(op, { types: ints }, plain, plain, true)),
  ...['LEFT', 'RIGHT'].flatMap((direction) => pairs('BitShift', { types: unsigned, attrs: { direction } }, plain, ranged('T', 0, 4), true)),
  ...['Greater', 'Equal', 'Less', 'GreaterOrEqual', 'LessOrEqual'].map((op) => ({ op, name: 'nan', outs: ['bool'], in: ['T[4]=nan,1,inf,-inf', 'T[4]=nan,nan,inf,0'] })),
  ...['Max', 'Min'].map((op) => ({ op, name: 'nan', in: ['T[4]=nan,1,inf,-inf', 'T[4]=nan,nan,2,0'] })),
  { op: 'PRelu', name: 'channels', in: ['T[2,3,4,5]', 'T[3,1,1]'] },
  { op: 'Mod', types: ['i8', 'i32', 'i64'], name: 'signs', in: ['T[4]=-7,7,-7,7', 'T[4]=3,-3,-3,3'] },
  { op: 'Div', types: ['i8', 'i32', 'i64'], name: 'signs', in: ['T[4]=-7,7,-7,7', 'T[4]=2,-2,-2,2'] },
];

const variadic = [
  ...'Max Min Sum Mean'.split(' ').flatMap((op) => [
    { op, types: floats, in: ['T[2,3]'] }, { op, types: floats, in: ['T[2,3]', 'T[2,3]'] },
    { op, types: floats, in: ['T[2,3]', 'T[3]', 'T[2,1]'] }, { op, in: ['T[]', 'T[4]', 'T[2,1,1]', 'T[3,1]'] },
  ]),
  ...['Max', 'Min'].map((op) => ({ op, since: 12, types: ints, in: ['T[2,3]', 'T[3]', 'T[2,1]'] })),
  ...every.map((T) => ({ op: 'Where', types: [T], in: ['bool[2,3]', 'T[2,3]', 'T[2,3]'] })),
  { op: 'Where', types: ['f32', 'i64', 'u8'], in: ['bool[3,1]', 'T[1,4]', 'T[2,1,1]'] },
  { op: 'Where', in: ['bool[]=1', 'T[4]', 'T[2,1]'] },
  { op: 'Where', in: ['bool[2,1]', 'T[]', 'T[0]'] },
];

// Casts: to each type, from values that every type holds; and those where the value is cut.
const ids = { f32: 1, u8: 2, i8: 3, u16: 4, i16: 5, i32: 6, i64: 7, bool: 9, f16: 10, f64: 11, u32: 12, u64: 13 };
const casts = [
  ...every.flatMap((to) => [{ op: 'Cast', types: every, exact: true, attrs: { to: ids[to] }, outs: [to], in: ['T[2,3,4] 0..9'] }]),
  ...['i8', 'i16', 'i32', 'i64', 'f16', 'f64', 'bool'].map((to) => ({ op: 'Cast', types: floats, exact: true, name: `cut-${to}`, attrs: { to: ids[to] }, outs: [to], in: ['T[8]=-1.9,1.9,-0.5,0.5,-2.5,2.5,100.7,-100.7'] })),
  ...['i8', 'u8', 'i16', 'u16', 'i32', 'u32'].map((to) => ({ op: 'Cast', types: ['i64', 'i32'], exact: true, name: `wrap-${to}`, attrs: { to: ids[to] }, outs: [to], in: ['T[6]=-1,300,-300,70000,-70000,2147483647'] })),
  { op: 'Cast', types: ['f32', 'f64'], exact: true, name: 'half', attrs: { to: 10 }, outs: ['f16'], in: ['T[9]=65504,65519,65520,1e-8,6e-8,-3e-5,inf,nan,2049'] },
  { op: 'Cast', exact: true, name: 'scalar', attrs: { to: 7 }, outs: ['i64'], in: ['T[]=3.7'] },
  ...['i64', 'f16', 'bool', 'u8'].map((to) => ({ op: 'CastLike', exact: true, name: to, types: floats, outs: [to], in: ['T[2,3] 0..9', `${to}[1]`] })),
];

export default [...unary, ...binary, ...variadic, ...casts];
