#include "core/tokenizer.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

struct tokenizer {
    sentencepiece::SentencePieceProcessor processor;
};

/* No C++ exception may cross into C. */
template <class Body> static int guarded(struct err *err, Body body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return err_set(err, ERR_NOMEM, "tokenizer: out of memory");
    } catch (const std::exception &e) {
        return err_set(err, ERR_INVALID, "tokenizer: %s", e.what());
    }
}

int tokenizer_load(struct tokenizer **out, const char *path, struct err *err)
{
    return guarded(err, [&] {
        auto fresh = std::make_unique<tokenizer>();
        const auto status = fresh->processor.Load(path);
        if (!status.ok())
            return err_set(
                err, ERR_INVALID, "%s is no SentencePiece model: %s", path, status.ToString().c_str());
        *out = fresh.release();
        return 0;
    });
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    delete tokenizer;
}

size_t tokenizer_pieces(const struct tokenizer *tokenizer)
{
    return (size_t)tokenizer->processor.GetPieceSize();
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t len, int32_t *ids,
    size_t max, size_t *count, struct err *err)
{
    return guarded(err, [&] {
        std::vector<int> found;
        const auto status = tokenizer->processor.Encode(absl::string_view(text, len), &found);
        if (!status.ok())
            return err_set(err, ERR_INVALID, "tokenizer: %s", status.ToString().c_str());
        for (size_t i = 0; i < found.size() && i < max; i++)
            ids[i] = found[i];
        *count = found.size();
        return 0;
    });
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id)
{
    if (id < 0 || id >= tokenizer->processor.GetPieceSize())
        return nullptr;
    return tokenizer->processor.IdToPiece(id).c_str();
}

int tokenizer_decode(
    const struct tokenizer *tokenizer, const int32_t *ids, size_t count, char **text, struct err *err)
{
    return guarded(err, [&] {
        const int pieces = tokenizer->processor.GetPieceSize();
        std::vector<int> known;
        for (size_t i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < pieces)
                known.push_back(ids[i]);
        std::string decoded;
        const auto status = tokenizer->processor.Decode(known, &decoded);
        if (!status.ok())
            return err_set(err, ERR_INVALID, "tokenizer: %s", status.ToString().c_str());
        char *copy = static_cast<char *>(malloc(decoded.size() + 1));
        if (!copy)
            return err_set(err, ERR_NOMEM, "tokenizer: out of memory");
        memcpy(copy, decoded.c_str(), decoded.size() + 1);
        *text = copy;
        return 0;
    });
}
