// Classify a Bitmap on Android with LiteRT, knowing nothing but the model file.
//
// Gradle: com.google.ai.edge.litert:litert (the interpreter) and com.google.ai.edge.litert:litert-metadata (the
// standard TFLite metadata: normalization and labels; size, channels, scales and zero points come from the tensors).
package com.example.classifier

import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.support.metadata.MetadataExtractor
import org.tensorflow.lite.support.metadata.schema.NormalizationOptions
import org.tensorflow.lite.support.metadata.schema.ProcessUnitOptions

/** One model; `model` is its file, memory-mapped or in a direct buffer. Not for several threads at once. */
class Classifier(model: ByteBuffer) : AutoCloseable {
    private val interpreter = Interpreter(model)
    private val input = interpreter.getInputTensor(0)
    private val output = interpreter.getOutputTensor(0)
    private val size = input.shape()[1]
    private val channels = input.shape()[3]
    private val labels: List<String>
    private val mean: FloatArray // on pixels of 0..1; one value stands for all channels
    private val std: FloatArray
    private val givesLogits: Boolean
    private val stretches: Boolean // the whole picture; otherwise its largest central square
    private val antialiases: Boolean

    init {
        val metadata = MetadataExtractor(model)
        labels = metadata.getAssociatedFile("labels.txt").bufferedReader().readLines()
        givesLogits = metadata.getOutputTensorMetadata(0)?.description()?.startsWith("The logit") ?: false
        val image = checkNotNull(metadata.getInputTensorMetadata(0)) { "the model has no metadata of its input" }
        stretches = image.description()?.contains("stretched") ?: false
        antialiases = !(image.description()?.contains("without antialiasing") ?: false)
        val unit = image.processUnits(0)
        check(unit.optionsType() == ProcessUnitOptions.NormalizationOptions) { "expected a normalization" }
        val options = unit.options(NormalizationOptions()) as NormalizationOptions
        // The standard is about pixels of 0..255; in 0..1 the numbers are rounded as in training.
        mean = FloatArray(options.meanLength()) { options.mean(it) / 255 }
        std = FloatArray(options.stdLength()) { options.std(it) / 255 }
    }

    /** The label and its probability. The bitmap must be readable: not of Bitmap.Config.HARDWARE. */
    fun classify(bitmap: Bitmap): Pair<String, Float> {
        val answer = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())
        interpreter.run(prepare(bitmap), answer)
        answer.rewind()
        val grid = output.quantizationParams()
        val values = FloatArray(output.numElements()) {
            if (output.dataType() == DataType.INT8) (answer.get() - grid.zeroPoint) * grid.scale else answer.getFloat()
        }
        val probabilities = if (givesLogits) softmax(values) else values
        val best = probabilities.indices.maxByOrNull { probabilities[it] }!!
        return labels[best] to probabilities[best]
    }

    private fun softmax(logits: FloatArray): FloatArray {
        val largest = logits.max()
        val powers = FloatArray(logits.size) { exp(logits[it] - largest) }
        val sum = powers.sum()
        return FloatArray(logits.size) { powers[it] / sum }
    }

    override fun close() = interpreter.close()

    private fun prepare(bitmap: Bitmap): ByteBuffer {
        val side = min(bitmap.width, bitmap.height)
        val (width, height) = if (stretches) bitmap.width to bitmap.height else side to side
        val colors = IntArray(width * height)
        bitmap.getPixels(colors, 0, width, (bitmap.width - width) / 2, (bitmap.height - height) / 2, width, height)
        val pixels = resize(pixelsOf(colors), width, height)
        val values = ByteBuffer.allocateDirect(input.numBytes()).order(ByteOrder.nativeOrder())
        val grid = input.quantizationParams()
        for (index in pixels.indices) {
            val value = (pixels[index] / 255f - mean[index % mean.size]) / std[index % std.size]
            when (input.dataType()) {
                DataType.FLOAT32 -> values.putFloat(value)
                DataType.INT8 -> { // rint rounds halves to even
                    val integer = Math.rint((value / grid.scale).toDouble()).toInt() + grid.zeroPoint
                    values.put(min(max(integer, -128), 127).toByte())
                }
                else -> error("an input of ${input.dataType()} is not supported")
            }
        }
        values.rewind()
        return values
    }

    /** ARGB -> red, green, blue, or gray as Pillow's luma of ITU-R 601. */
    private fun pixelsOf(colors: IntArray): IntArray {
        val rgb = IntArray(colors.size * 3) { (colors[it / 3] shr (16 - 8 * (it % 3))) and 255 }
        if (channels == 3) return rgb
        return IntArray(colors.size) {
            (rgb[3 * it] * 19595 + rgb[3 * it + 1] * 38470 + rgb[3 * it + 2] * 7471 + 0x8000) shr 16
        }
    }

    /** Bilinear, rows first, then columns, as Pillow does; with antialiasing every pixel counts when shrinking. */
    private fun resize(pixels: IntArray, width: Int, height: Int): IntArray {
        val across = List(size) { tapsOf(it, width) }
        val down = List(size) { tapsOf(it, height) }
        val narrow = IntArray(height * size * channels) {
            val (row, place) = it / (size * channels) to it % (size * channels)
            mix(pixels, row * width * channels + place % channels, channels, across[place / channels])
        }
        return IntArray(size * size * channels) {
            mix(narrow, it % (size * channels), size * channels, down[it / (size * channels)])
        }
    }

    /** One output place: the first input it is a mean of, and the weights, integers of 2^-22. */
    private class Taps(val start: Int, val weights: LongArray)

    private fun tapsOf(place: Int, length: Int): Taps {
        val scale = length.toDouble() / size
        val reach = if (antialiases) max(scale, 1.0) else 1.0 // without: the two nearest
        val center = (place + 0.5) * scale
        val start = max(floor(center - reach + 0.5).toInt(), 0)
        val end = min(floor(center + reach + 0.5).toInt(), length)
        val triangle = DoubleArray(end - start) { max(1 - abs(start + it + 0.5 - center) / reach, 0.0) }
        val sum = triangle.sum()
        return Taps(start, LongArray(triangle.size) { Math.round(triangle[it] / sum * (1 shl 22)) })
    }

    private fun mix(values: IntArray, from: Int, step: Int, taps: Taps): Int {
        var sum = 1L shl 21
        for (index in taps.weights.indices) sum += taps.weights[index] * values[from + (taps.start + index) * step]
        return min(max((sum shr 22).toInt(), 0), 255)
    }
}
