// T5's encoder in CTranslate2, one thread: a peer of `make bench-encoder-peers`.
//
//     ct2_worker DIR float32|bfloat16|int8
//
// DIR is what ct2_model.py wrote. worker.py tells what is read and written.
#include <ctranslate2/encoder.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

using batch = std::vector<std::vector<size_t>>;

static std::vector<batch> read_batches(const std::string &path)
{
    std::ifstream file(path);
    std::vector<batch> batches(1);
    for (std::string line; std::getline(file, line);) {
        if (line.empty()) {
            batches.emplace_back();
            continue;
        }
        std::istringstream numbers(line);
        std::vector<size_t> ids;
        for (size_t id; numbers >> id;)
            ids.push_back(id);
        batches.back().push_back(ids);
    }
    return batches;
}

static size_t count_tokens(const batch &texts)
{
    size_t tokens = 0;
    for (const auto &text : texts)
        tokens += text.size();
    return tokens;
}

static ctranslate2::StorageView encode(ctranslate2::Encoder &encoder, const batch &texts)
{
    return encoder.forward_batch_async(texts).get().last_hidden_state;
}

static size_t write_states(
    ctranslate2::Encoder &encoder, const std::vector<batch> &batches, const std::string &path)
{
    std::ofstream out(path, std::ios::binary);
    size_t tokens = 0;
    for (const batch &texts : batches) {
        const auto states = encode(encoder, texts).to(ctranslate2::DataType::FLOAT32);
        const auto longest = states.dim(1), d = states.dim(2);
        for (size_t row = 0; row < texts.size(); row++)
            out.write(
                reinterpret_cast<const char *>(states.data<float>() + static_cast<long>(row) * longest * d),
                static_cast<std::streamsize>(texts[row].size() * static_cast<size_t>(d) * sizeof(float)));
        tokens += count_tokens(texts);
    }
    return tokens;
}

static void time_runs(ctranslate2::Encoder &encoder, const std::vector<batch> &batches, double limit)
{
    using clock = std::chrono::steady_clock;
    const auto start = clock::now();
    const std::clock_t before = std::clock();
    size_t tokens = 0;
    double seconds = 0;
    do {
        for (const batch &texts : batches) {
            encode(encoder, texts);
            tokens += count_tokens(texts);
        }
        seconds = std::chrono::duration<double>(clock::now() - start).count();
    } while (seconds < limit);
    const double cpu = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
    std::cout << "{\"tokens\": " << tokens << ", \"seconds\": " << seconds << ", \"cpu\": " << cpu << "}"
              << std::endl;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::cerr << "usage: ct2_worker DIR float32|bfloat16|int8\n";
        return 2;
    }
    ctranslate2::ReplicaPoolConfig config;
    config.num_threads_per_replica = 1;
    ctranslate2::Encoder encoder(
        argv[1], ctranslate2::Device::CPU, ctranslate2::str_to_compute_type(argv[2]), {0}, false, config);
    std::cout << "{\"ready\": true, \"version\": \"" VERSION "\"}" << std::endl;
    std::map<std::string, std::vector<batch>> known;
    for (std::string what, path, last; std::cin >> what >> path >> last;) {
        if (!known.count(path)) {
            known[path] = read_batches(path);
            for (const batch &texts : known[path])
                encode(encoder, texts);
        }
        if (what == "states")
            std::cout << "{\"tokens\": " << write_states(encoder, known[path], last) << "}" << std::endl;
        else
            time_runs(encoder, known[path], std::stod(last));
    }
}
