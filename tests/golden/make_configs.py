"""config.json of the models that the tests make, one folder each: make_configs.py --out DIR [--summary N]

Small models of odd sizes, each with another switch or limit; `small` has the dimensions of T5-small, and
summaries of at most N tokens.
"""
import argparse
import json
import pathlib

BASE = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 37,
    "num_heads": 3,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "vocab_size": 2051,
    "feed_forward_proj": "relu",
    "tie_word_embeddings": True,
    "embsum": {"m": 5, "n": 3, "code_dim": 7, "max_summary_tokens": 20, "sos_token_id": 2007},
}

# What differs from BASE; keys of "embsum" are named with a dot.
VARIANTS = {
    "base": {},
    "gated-untied": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gated-tied": {"feed_forward_proj": "gated-gelu"},
    "relu-untied": {"tie_word_embeddings": False},
    "no_cpe": {"embsum.ablation": "no_cpe"},
    "no_upe": {"embsum.ablation": "no_upe"},
    "no_grouping": {"embsum.ablation": "no_grouping"},
    "no_lsum": {"embsum.ablation": "no_lsum"},
    # one of everything
    "ones": {
        "num_heads": 1,
        "num_layers": 1,
        "num_decoder_layers": 1,
        "embsum.m": 1,
        "embsum.n": 1,
        "embsum.code_dim": 1,
        "embsum.max_summary_tokens": 1,
    },
    # limits that divide nothing, few buckets, an epsilon that counts, ids that are not T5's, deeper encoder
    "limits": {
        "d_model": 33,
        "d_kv": 5,
        "d_ff": 1,
        "num_layers": 3,
        "num_decoder_layers": 1,
        "layer_norm_epsilon": 0.01,
        "relative_attention_num_buckets": 6,
        "relative_attention_max_distance": 11,
        "eos_token_id": 3,
        "decoder_start_token_id": 2050,
        "embsum.session_size": 7,
        "embsum.max_items": 10,
        "embsum.max_summary_tokens": 33,
        "embsum.fields": [
            {"column": "subcategory", "prefix": "", "suffix": "", "max_tokens": 3},
            {"column": "title", "prefix": "", "suffix": ".", "max_tokens": 1},
            {"column": "title", "prefix": "Again: ", "suffix": "", "max_tokens": 50},
        ],
    },
    # sequences far beyond the last bucket
    "long": {
        "embsum.session_size": 15,
        "embsum.max_summary_tokens": 100,
        "embsum.fields": [{"column": "abstract", "prefix": "", "suffix": "", "max_tokens": 400}],
    },
    "small": {
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_heads": 8,
        "num_layers": 6,
        "num_decoder_layers": 6,
        "vocab_size": 32128,
        "embsum.m": 32,
        "embsum.n": 4,
        "embsum.code_dim": 256,
        "embsum.sos_token_id": 32100,
    },
}


def configure(changes):
    config = json.loads(json.dumps(BASE))
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = value
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--summary", type=int, default=96)
    args = parser.parse_args()
    for name, changes in VARIANTS.items():
        if name == "small":
            changes = {**changes, "embsum.max_summary_tokens": args.summary}
        folder = args.out / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(configure(changes), indent=2) + "\n")


if __name__ == "__main__":
    main()
