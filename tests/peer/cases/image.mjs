// Resize and Upsample, sampling, boxes.
import { F, Fs } from '../onnx.mjs';

const floats = ['f32', 'f16', 'f64'];
const scales = (...v) => `f32[${v.length}]=${v}`;
const sizes = (...v) => `i64[${v.length}]=${v}`;

const upsamples = [
  ...['nearest', 'linear'].flatMap((mode) => [[1, 1, 2, 3], [1, 1, 1.5, 2.6]].flatMap((s) => [
    { op: 'Upsample', opsets: [7, 8], attrs: { mode, scales: Fs(...s) }, in: ['T[1,2,3,4]'] },
    { op: 'Upsample', opsets: [9], attrs: { mode }, name: `${mode}-${s}`, in: ['T[1,2,3,4]', scales(...s)] },
  ])),
  ...['nearest', 'linear'].flatMap((mode) => [[1, 1, 2, 3], [1, 1, 0.6, 0.5], [1, 1, 1.4, 0.7]].map((s) => ({ op: 'Resize', opsets: [10], attrs: { mode }, name: `${mode}-${s}`, in: ['T[1,2,5,4]', scales(...s)] }))),
];

const coordinates = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'];
const resizes = coordinates.flatMap((coordinate_transformation_mode) => [
  ...['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'].map((nearest_mode) => ({ mode: 'nearest', nearest_mode })),
  { mode: 'linear' }, { mode: 'cubic' }, { mode: 'cubic', exclude_outside: 1, cubic_coeff_a: F(-0.5) },
].flatMap((m) => [[1, 1, 2, 3], [1, 1, 0.6, 0.5], [1, 1, 1.7, 0.4], [1, 1, 2.3, 1]].map((s) => {
  const attrs = { ...m, coordinate_transformation_mode };
  const name = `${m.mode}-${m.nearest_mode ?? (m.exclude_outside ? 'ex' : '')}-${coordinate_transformation_mode}-${s}`;
  return { op: 'Resize', since: 11, name, attrs, in: ['T[1,2,5,4]', 'f32[0]', scales(...s)] };
})));
resizes.push(
  ...coordinates.flatMap((coordinate_transformation_mode) => ['nearest', 'linear', 'cubic'].flatMap((mode) => [[1, 2, 7, 9], [1, 2, 3, 2], [1, 2, 1, 1]].flatMap((s) => [
    { op: 'Resize', since: 13, name: `sizes-${mode}-${coordinate_transformation_mode}-${s}`, attrs: { mode, coordinate_transformation_mode }, in: ['T[1,2,5,4]', '', '', sizes(...s)] },
  ]))),
  ...['linear', 'nearest', 'cubic'].flatMap((mode) => [
    { op: 'Resize', since: 11, name: `crop-${mode}`, attrs: { mode, coordinate_transformation_mode: 'tf_crop_and_resize', extrapolation_value: F(7) }, in: ['T[1,1,5,4]', 'f32[8]=0,0,0.2,-0.3,1,1,0.9,0.8', '', sizes(1, 1, 4, 6)] },
    { op: 'Resize', since: 18, name: `crop-axes-${mode}`, attrs: { mode, axes: [2, 3], coordinate_transformation_mode: 'tf_crop_and_resize', extrapolation_value: F(7) }, in: ['T[1,1,5,4]', 'f32[4]=0.2,-0.3,0.9,0.8', '', sizes(4, 6)] },
    { op: 'Resize', since: 18, name: `axes-${mode}`, attrs: { mode, axes: [3, 2] }, in: ['T[1,2,5,4]', '', scales(2, 1.5)] },
    { op: 'Resize', since: 18, name: `axes-negative-${mode}`, attrs: { mode, axes: [-2, -1] }, in: ['T[1,2,5,4]', '', scales(2, 1.5)] },
    { op: 'Resize', since: 19, name: `symmetric-${mode}`, attrs: { mode, coordinate_transformation_mode: 'half_pixel_symmetric' }, in: ['T[1,2,5,4]', '', scales(1, 1, 0.7, 1.6)] },
    ...['not_larger', 'not_smaller'].map((keep_aspect_ratio_policy) => ({ op: 'Resize', since: 18, name: `${keep_aspect_ratio_policy}-${mode}`, attrs: { mode, axes: [2, 3], keep_aspect_ratio_policy }, in: ['T[1,2,5,4]', '', '', sizes(7, 9)] })),
    ...[[1, 1, 0.6, 0.5], [1, 1, 0.4, 0.3]].map((s) => ({ op: 'Resize', since: 18, name: `antialias-${mode}-${s}`, attrs: { mode, antialias: 1 }, in: ['T[1,2,9,8]', '', scales(...s)] })),
    { op: 'Resize', since: 18, name: `antialias-sizes-${mode}`, attrs: { mode, antialias: 1, coordinate_transformation_mode: 'align_corners' }, in: ['T[1,2,9,8]', '', '', sizes(1, 2, 4, 3)] },
    { op: 'Resize', since: 13, name: `types-${mode}`, types: [...floats, 'u8', 'i8', 'i32'], attrs: { mode }, in: ['T[1,2,4,4]', '', scales(1, 1, 2, 2)] },
  ]),
  { op: 'Resize', since: 18, name: 'antialias-exclude', attrs: { mode: 'cubic', antialias: 1, exclude_outside: 1 }, in: ['T[1,2,9,8]', '', scales(1, 1, 0.6, 0.5)] },
  { op: 'Resize', opsets: [11, 13], name: 'tf-half', attrs: { mode: 'nearest', coordinate_transformation_mode: 'tf_half_pixel_for_nn' }, in: ['T[1,2,5,4]', 'f32[0]', scales(1, 1, 2, 0.6)] },
  ...['nearest', 'linear'].flatMap((mode) => [['1,2,5', [1, 1, 2.5]], ['2,3', [2, 1.5]], ['1,1,3,4,5', [1, 1, 2, 1.5, 0.6]], ['2,4,5,3', [1, 2, 1.5, 1]]].map(([x, s]) => ({ op: 'Resize', since: 13, name: `rank-${mode}-${s}`, attrs: { mode }, in: [`T[${x}]`, '', scales(...s)] }))),
);

const sampling = ['zeros', 'border', 'reflection'].flatMap((padding_mode) => [0, 1].flatMap((align_corners) => [
  ...['bilinear', 'nearest', 'bicubic'].map((mode) => ({ op: 'GridSample', opsets: [16], attrs: { mode, padding_mode, align_corners }, in: ['T[2,2,4,5]', 'T[2,3,4,2] -1.4..1.4'] })),
  ...['linear', 'nearest', 'cubic'].map((mode) => ({ op: 'GridSample', since: 20, types: floats, attrs: { mode, padding_mode, align_corners }, in: ['T[2,2,4,5]', 'T[2,3,4,2] -1.4..1.4'] })),
  ...['linear', 'nearest'].map((mode) => ({ op: 'GridSample', since: 20, attrs: { mode, padding_mode, align_corners }, in: ['T[1,2,3,4,5]', 'T[1,2,3,4,3] -1.4..1.4'] })),
]));
sampling.push(
  ...[0, 1].flatMap((align_corners) => [['2,2,3', [2, 3, 4, 5]], ['1,3,4', [1, 2, 3, 4, 5]]].map(([theta, size]) => ({ op: 'AffineGrid', attrs: { align_corners }, types: ['f32', 'f64'], in: [`T[${theta}]`, sizes(...size)] }))),
);

const rois = 'f32[3,4]=0.5,1,6,5,2,2.5,7.5,6,-1,-1,3,12';
const boxes = [
  ...['avg', 'max'].flatMap((mode) => [{}, { sampling_ratio: 2 }, { spatial_scale: 0.5, sampling_ratio: 3 }].flatMap((more) => {
    const attrs = { mode, output_height: 2, output_width: 3, ...more };
    const row = { op: 'RoiAlign', in: ['T[2,2,8,9]', rois.replace('f32', 'T'), 'i64[3]=0,1,0'] };
    return [{ ...row, until: 15, attrs }, ...['half_pixel', 'output_half_pixel'].map((coordinate_transformation_mode) => ({ ...row, since: 16, types: ['f32', 'f64'], attrs: { ...attrs, coordinate_transformation_mode } }))];
  })),
  ...[{}, { center_point_box: 1 }].flatMap((attrs) => [[10, 0.3, 0], [2, 0.5, 0.4], [0, 0.5, 0]].map((v) => ({ op: 'NonMaxSuppression', attrs, name: `${attrs.center_point_box ?? 0}-${v}`, outs: ['i64'], in: ['f32[1,8,4] 0.1..1', 'f32[1,2,8] 0..1', `i64[1]=${v[0]}`, `f32[1]=${v[1]}`, `f32[1]=${v[2]}`] }))),
  { op: 'NonMaxSuppression', name: 'defaults', outs: ['i64'], in: ['f32[2,8,4] 0..1', 'f32[2,3,8] 0..1', 'i64[1]=3'] },
  { op: 'NonMaxSuppression', name: 'no-limit', outs: ['i64'], in: ['f32[2,8,4] 0..1', 'f32[2,3,8] 0..1'] },
  ...[{ kernel_shape: [2, 2] }, { kernel_shape: [2, 2], pads: [1, 1, 1, 1] }, { kernel_shape: [2, 2], strides: [2, 2] }].flatMap((attrs) => {
    const p = attrs.pads ? 2 : 0, s = attrs.strides ? 2 : 1;
    const h = Math.floor((5 + p - 2) / s) + 1, w = Math.floor((4 + p - 2) / s) + 1;
    return [
      { op: 'DeformConv', types: ['f32', 'f64'], attrs, in: ['T[1,2,5,4]', 'T[3,2,2,2]', `T[1,8,${h},${w}] -1..1`, 'T[3]'] },
      { op: 'DeformConv', attrs, in: ['T[1,2,5,4]', 'T[3,2,2,2]', `T[1,8,${h},${w}] -1..1`, 'T[3]', `T[1,4,${h},${w}] 0..1`] },
      { op: 'DeformConv', attrs: { ...attrs, offset_group: 2, group: 2 }, in: ['T[1,2,5,4]', 'T[4,1,2,2]', `T[1,16,${h},${w}] -1..1`, '', `T[1,8,${h},${w}] 0..1`] },
    ];
  }),
  ...[{}, { dilations: [1, 2] }, { pads: [1, 0, 1, 0] }].map((attrs) => {
    const n = attrs.dilations ? 4 * 3 : attrs.pads ? 6 * 4 : 4 * 4;
    return { op: 'Col2Im', attrs, name: Object.keys(attrs)[0] ?? 'plain', in: [`T[1,12,${n}]`, sizes(5, 5), sizes(2, attrs.dilations ? 2 : 2)] };
  }),
];

export default [...upsamples, ...resizes, ...sampling, ...boxes];
