// Chooses among the .onnx files of one bundle the one that is exact on this processor and the fastest.
//
// MODEL.onnx, MODEL-u8s8.onnx and MODEL-s8s8.onnx hold the same integers; which of them are there decides as well.
// Needs nothing but C++17. ONNX Runtime 1.28 or newer: older releases have wrong int8 kernels for AMX and VNNI.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

// What stands behind the name of a file, by class of processor: those that are exact there, the fastest first.
inline const std::map<std::string, std::vector<std::string>> kFastest{
    {"x86-vnni", {"-u8s8", ""}},
    {"x86", {""}},
    {"x86-sse", {"-u8s8", ""}},
    {"arm64-dot", {"", "-u8s8", "-s8s8"}},
    {"arm64-neon", {"-s8s8", "-u8s8", ""}},
};

// The instructions that Linux tells; none on other systems.
inline std::set<std::string> flags_of(const std::string& cpuinfo) {
    std::set<std::string> flags;
    std::istringstream lines(cpuinfo);
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
        std::istringstream words(line.substr(line.find(':') + 1));
        flags.insert(std::istream_iterator<std::string>(words), {});
    }
    return flags;
}

// The class of a processor; where its instructions are not known, the most careful one.
inline std::string class_of(bool arm64, const std::set<std::string>& flags) {
    if (arm64) {
        const bool dot = flags.empty() || flags.count("asimddp") || flags.count("i8mm");
        return dot ? "arm64-dot" : "arm64-neon";
    }
    if (flags.count("avx512_vnni") || flags.count("avx_vnni")) return "x86-vnni";
    return flags.empty() || flags.count("avx2") ? "x86" : "x86-sse";
}

// The best of the files that are there for a class of processors.
inline std::string best_file(const std::string& model, const std::string& processor) {
    const std::filesystem::path path(model);
    for (const std::string& end : kFastest.at(processor)) {
        const auto file = path.parent_path() / (path.stem().string() + end + path.extension().string());
        if (std::filesystem::exists(file)) return file.string();
    }
    return model;
}

// The best of the files that are there for this processor.
inline std::string for_this_processor(const std::string& model) {
#if defined(__aarch64__) || defined(_M_ARM64)
    constexpr bool arm64 = true;
#else
    constexpr bool arm64 = false;
#endif
    std::ifstream stream("/proc/cpuinfo");
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    return best_file(model, class_of(arm64, flags_of(text)));
}
