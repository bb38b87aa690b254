// Classify pixels with ONNX Runtime in C++, knowing nothing but the model file.
//
//     c++ -std=c++17 classify.cpp -lonnxruntime -o classify
//     ./classify MODEL.onnx IMAGE.raw WIDTH HEIGHT
//
// IMAGE.raw: WIDTH * HEIGHT * channels bytes, row by row, RGB interleaved, as any image library gives them; gray
// for a model of one channel. Of the files beside MODEL.onnx it takes the fastest that is exact on this processor
// (processor.hpp). Needs ONNX Runtime's C++ headers and nlohmann/json. Prints the label and its probability.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "processor.hpp"

using nlohmann::json;
using Pixels = std::vector<uint8_t>;

// One output place of a resize: the inputs it is a mean of, and their weights, integers of 2^-22.
struct Taps {
    int start;
    std::vector<int64_t> weights;
};
constexpr int kOneBits = 22;

// Which of `from` inputs each of `to` places is a mean of: a triangle, with antialiasing as wide as what is left out
// when shrinking, without only the two nearest.
std::vector<Taps> taps_of(int from, int to, bool antialias) {
    const double scale = double(from) / to, reach = antialias ? std::max(scale, 1.0) : 1.0;
    std::vector<Taps> taps;
    for (int place = 0; place < to; ++place) {
        const double center = (place + 0.5) * scale;
        const int start = std::max(int(std::floor(center - reach + 0.5)), 0);
        const int end = std::min(int(std::floor(center + reach + 0.5)), from);
        std::vector<double> triangle;
        double sum = 0;
        for (int at = start; at < end; ++at) {
            triangle.push_back(std::max(1 - std::abs(at + 0.5 - center) / reach, 0.0));
            sum += triangle.back();
        }
        Taps found{start, {}};
        for (double weight : triangle) found.weights.push_back(std::llround(weight / sum * (1 << kOneBits)));
        taps.push_back(found);
    }
    return taps;
}

// The weighted mean of values that lie `step` apart.
uint8_t mix(const uint8_t* values, int step, const Taps& taps) {
    int64_t sum = int64_t(1) << (kOneBits - 1);
    for (size_t index = 0; index < taps.weights.size(); ++index)
        sum += taps.weights[index] * values[(taps.start + int64_t(index)) * step];
    return uint8_t(std::clamp<int64_t>(sum >> kOneBits, 0, 255));
}

// The central square or the whole picture, made `size` pixels wide and high by a bilinear filter, rows first.
Pixels square_of(const Pixels& image, int width, int height, const json& spec) {
    const int size = spec.at("image_size"), channels = spec.at("channels"), side = std::min(width, height);
    const bool crop = spec.at("fit") == "crop", antialias = spec.at("antialias");
    const int left = crop ? (width - side) / 2 : 0, top = crop ? (height - side) / 2 : 0;
    const int rows = crop ? side : height;
    const std::vector<Taps> across = taps_of(crop ? side : width, size, antialias);
    const std::vector<Taps> down = taps_of(rows, size, antialias);
    Pixels narrow(size_t(rows) * size * channels), result(size_t(size) * size * channels);
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < size; ++column)
            for (int channel = 0; channel < channels; ++channel)
                narrow[(size_t(row) * size + column) * channels + channel] =
                    mix(&image[(size_t(top + row) * width + left) * channels + channel], channels, across[column]);
    for (int row = 0; row < size; ++row)
        for (int place = 0; place < size * channels; ++place)
            result[size_t(row) * size * channels + place] = mix(&narrow[place], size * channels, down[row]);
    return result;
}

// Pixels -> the input's numbers: normalized, and quantized unless the tensor is float.
template <typename Number>
std::vector<Number> values_of(const Pixels& pixels, const json& spec) {
    const json& tensor = spec.at("input");
    const std::vector<float> means = spec.at("mean"), deviations = spec.at("std");
    std::vector<Number> values;
    for (size_t index = 0; index < pixels.size(); ++index) {
        const size_t channel = index % means.size();
        const float value = (pixels[index] / 255.0f - means[channel]) / deviations[channel];
        if constexpr (std::is_same_v<Number, float>) {
            values.push_back(value);
        } else {
            using Limits = std::numeric_limits<Number>;
            const float scale = tensor.at("scale"), zero_point = tensor.at("zero_point");
            const float integer = std::nearbyint(value / scale) + zero_point;  // rounds halves to even
            values.push_back(Number(std::clamp(integer, float(Limits::min()), float(Limits::max()))));
        }
    }
    return values;
}

// The output -> probabilities. It is of the input's type, or float32 behind a softmax that is computed in float.
template <typename Number>
std::vector<float> probabilities_of(const Ort::Value& answer, const json& tensor) {
    const size_t count = answer.GetTensorTypeAndShapeInfo().GetElementCount();
    std::vector<float> values;
    if (tensor.at("scale").is_null()) {
        const float* numbers = answer.GetTensorData<float>();
        values.assign(numbers, numbers + count);
    } else {
        const Number* numbers = answer.GetTensorData<Number>();
        for (size_t index = 0; index < count; ++index)
            values.push_back((numbers[index] - tensor.at("zero_point").get<int>()) * tensor.at("scale").get<float>());
    }
    if (tensor.at("values") == "logits") {
        const float largest = *std::max_element(values.begin(), values.end());
        float sum = 0;
        for (float& value : values) sum += value = std::exp(value - largest);
        for (float& value : values) value /= sum;
    }
    return values;
}

// Runs the model and gives the probabilities.
template <typename Number>
std::vector<float> run(Ort::Session& session, const Pixels& pixels, const json& spec) {
    std::vector<Number> values = values_of<Number>(pixels, spec);
    const int64_t size = spec.at("image_size"), channels = spec.at("channels");
    const std::vector<int64_t> shape{1, size, size, channels};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value input =
        Ort::Value::CreateTensor<Number>(memory, values.data(), values.size(), shape.data(), shape.size());
    const json& tensor = spec.at("output");
    const std::string input_name = spec.at("input").at("name"), output_name = tensor.at("name");
    const char *inputs[] = {input_name.c_str()}, *outputs[] = {output_name.c_str()};
    const auto answers = session.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);
    return probabilities_of<Number>(answers.front(), tensor);
}

// An entry of the model's metadata as JSON.
json entry_of(const Ort::Session& session, const char* key) {
    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::AllocatedStringPtr text = session.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator);
    if (!text) throw std::runtime_error(std::string("the model has no entry ") + key);
    return json::parse(text.get());
}

int main(int count, char** arguments) {
    if (count != 5) return std::fprintf(stderr, "usage: classify MODEL.onnx IMAGE.raw WIDTH HEIGHT\n"), 2;
    const Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "classify");
    const std::string model = for_this_processor(arguments[1]);
    Ort::Session session(environment, model.c_str(), Ort::SessionOptions{});
    const json spec = entry_of(session, "edgeship.preprocessing"), labels = entry_of(session, "edgeship.labels");

    std::ifstream stream(arguments[2], std::ios::binary);
    const Pixels image{std::istreambuf_iterator<char>(stream), {}};
    const int width = std::atoi(arguments[3]), height = std::atoi(arguments[4]), channels = spec.at("channels");
    if (width < 1 || height < 1 || image.size() != size_t(width) * height * channels)
        return std::fprintf(stderr, "%s: not %d x %d x %d bytes\n", arguments[2], width, height, channels), 2;

    const Pixels square = square_of(image, width, height, spec);
    const std::string dtype = spec.at("input").at("dtype");
    const std::vector<float> probabilities = dtype == "uint8" ? run<uint8_t>(session, square, spec)
                                             : dtype == "int8" ? run<int8_t>(session, square, spec)
                                                               : run<float>(session, square, spec);
    const auto best = std::max_element(probabilities.begin(), probabilities.end());
    const std::string label = labels.at(size_t(best - probabilities.begin()));
    std::printf("%s\t%.4f\n", label.c_str(), *best);
}
