// T5's encoder in llama.cpp, one thread: a peer of `make bench-encoder-peers`.
//
//     llama_worker FILE.gguf LIBRARIES
//
// FILE.gguf is llama_model.py's, LIBRARIES the library's folder. worker.py tells what is read and written. The library
// lets all tokens of a call attend to all, under a mask, so that a text a call is the cheapest: batches do not matter.
#include <llama.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

using text = std::vector<llama_token>;

enum { LONGEST = 512 };

static std::vector<text> read_texts(const std::string &path)
{
    std::ifstream file(path);
    std::vector<text> texts;
    for (std::string line; std::getline(file, line);) {
        std::istringstream numbers(line);
        text ids;
        for (llama_token id; numbers >> id;)
            ids.push_back(id);
        if (!ids.empty())
            texts.push_back(ids);
    }
    return texts;
}

static const float *encode(llama_context *context, llama_batch &batch, const text &ids)
{
    batch.n_tokens = static_cast<int32_t>(ids.size());
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = static_cast<llama_pos>(i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    if (llama_encode(context, batch)) {
        std::cerr << "llama_encode failed\n";
        std::exit(1);
    }
    return llama_get_embeddings(context);
}

static llama_context *new_context(const char *path)
{
    llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = LONGEST;
    llama_context *context = model ? llama_init_from_model(model, params) : nullptr;
    if (!context)
        return nullptr;
    llama_set_n_threads(context, 1, 1);
    llama_set_embeddings(context, true);
    llama_set_causal_attn(context, false);
    return context;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::cerr << "usage: llama_worker FILE.gguf LIBRARIES\n";
        return 2;
    }
    ggml_backend_load_all_from_path(argv[2]); // the kernels for a processor may be a library of their own
    llama_backend_init();
    llama_context *context = new_context(argv[1]);
    if (!context)
        return 1;
    const auto d = static_cast<size_t>(llama_model_n_embd(llama_get_model(context)));
    llama_batch batch = llama_batch_init(LONGEST, 0, 1);
    std::cout << "{\"ready\": true, \"version\": \"" VERSION "\"}" << std::endl;
    std::map<std::string, std::vector<text>> known;
    for (std::string what, path, last; std::cin >> what >> path >> last;) {
        if (!known.count(path)) {
            known[path] = read_texts(path);
            for (const text &ids : known[path])
                encode(context, batch, ids);
        }
        size_t tokens = 0;
        if (what == "states") {
            std::ofstream out(last, std::ios::binary);
            for (const text &ids : known[path]) {
                const auto *states = reinterpret_cast<const char *>(encode(context, batch, ids));
                out.write(states, static_cast<std::streamsize>(ids.size() * d * sizeof(float)));
                tokens += ids.size();
            }
            std::cout << "{\"tokens\": " << tokens << "}" << std::endl;
            continue;
        }
        using clock = std::chrono::steady_clock;
        const auto start = clock::now();
        const std::clock_t before = std::clock();
        double seconds = 0;
        do {
            for (const text &ids : known[path]) {
                encode(context, batch, ids);
                tokens += ids.size();
            }
            seconds = std::chrono::duration<double>(clock::now() - start).count();
        } while (seconds < std::stod(last));
        const double cpu = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
        std::cout << "{\"tokens\": " << tokens << ", \"seconds\": " << seconds << ", \"cpu\": " << cpu << "}"
                  << std::endl;
    }
}
