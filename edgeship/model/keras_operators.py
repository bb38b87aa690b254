"""TensorFlow's operators that only compute: tensors go in, tensors come out, and nothing else happens.

A saved model names an operator for each TFOpLambda layer in it, and any function of TensorFlow's interface can be
named: one that writes a file (`io.write_file`), calls Python (`py_function`) or reaches every kernel (`raw_ops`). So
these names are a list of what is let through, in which a new name must be written, and no list of what is not.
Operators that take a function (`map_fn`, `while_loop`, `cond`) are not in it.
"""

from __future__ import annotations

_PLAIN = """
abs acos add add_n argmax argmin argsort asin atan batch_to_space boolean_mask broadcast_static_shape broadcast_to cast
clip_by_norm clip_by_value concat constant convert_to_tensor cos cumsum divide einsum ensure_shape equal exp expand_dims
eye fill floor gather gather_nd greater greater_equal identity less less_equal linspace logical_and logical_not
logical_or matmul maximum meshgrid minimum multiply negative norm not_equal one_hot ones ones_like pad pow range rank
reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse
roll round scalar_mul shape shape_n sigmoid sign sin size slice sort space_to_batch split sqrt square squeeze stack
stop_gradient strided_slice subtract tan tanh tensordot tile transpose truediv truncatediv unstack where zeros
zeros_like
"""
_MATH = """
abs accumulate_n acos add add_n argmax argmin asin asinh atan atan2 atanh ceil conj cos cosh count_nonzero cumprod
cumsum divide divide_no_nan equal erf erfc erfinv exp expm1 floor floordiv floormod greater greater_equal is_finite
is_inf is_nan l2_normalize less less_equal log log1p log_sigmoid log_softmax logical_and logical_not logical_or
logical_xor maximum minimum mod multiply multiply_no_nan negative nextafter not_equal pow reciprocal
reciprocal_no_nan reduce_all reduce_any reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean reduce_min
reduce_prod reduce_std reduce_sum reduce_variance rint round rsqrt scalar_mul segment_max segment_mean segment_sum
sigmoid sign sin sinh softmax softplus softsign sqrt square squared_difference subtract tan tanh top_k truediv
xdivy xlog1py xlogy
"""
_NN = """
atrous_conv2d avg_pool avg_pool1d avg_pool2d avg_pool3d batch_normalization batch_norm_with_global_normalization
bias_add conv1d conv1d_transpose conv2d conv2d_transpose conv3d conv_transpose convolution crelu depth_to_space
depthwise_conv2d depthwise_conv2d_native dilation2d dropout elu fused_batch_norm gelu l2_loss l2_normalize leaky_relu
local_response_normalization log_softmax lrn max_pool max_pool1d max_pool2d max_pool3d moments normalize pool relu
relu6 selu separable_conv2d sigmoid silu softmax softplus softsign space_to_batch space_to_depth swish tanh top_k
"""
_LINALG = """
band_part diag diag_part einsum eye l2_normalize matmul matvec matrix_transpose norm set_diag tensordot trace
"""
_IMAGE = """
adjust_brightness adjust_contrast central_crop crop_to_bounding_box extract_patches flip_left_right flip_up_down
grayscale_to_rgb pad_to_bounding_box per_image_standardization resize resize_bilinear resize_images
resize_nearest_neighbor resize_with_crop_or_pad rgb_to_grayscale rot90 transpose
"""
_OTHER = """
dtypes.cast keras.activations.relu quantization.fake_quant_with_min_max_args
quantization.fake_quant_with_min_max_vars quantization.fake_quant_with_min_max_vars_per_channel
"""

# Without "compat.v1.", which the older forms have before the name.
OPERATORS = frozenset(
    prefix + name
    for prefix, names in (
        ("", _PLAIN), ("math.", _MATH), ("nn.", _NN), ("linalg.", _LINALG), ("image.", _IMAGE), ("", _OTHER),
    )
    for name in names.split()
)
