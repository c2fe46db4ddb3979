#!/bin/sh
# The demo's model is worth shipping: it ranks what it was not trained on as well as its README says.
#
#     sh tests/demo/test_demo_model.sh
set -eu
: "${BUILD:=build}"
demo=deploy/demo

figures=$("$BUILD/embsum" eval --quiet --model $demo/model --news $demo/news.tsv --behaviors $demo/behaviors_valid.tsv)
auc=$(echo "$figures" | sed -n 's/.*"auc": \([0-9.]*\),.*/\1/p')
echo "AUC $auc on held-out impressions"
awk -v auc="$auc" 'BEGIN { exit !(auc >= 0.90) }' || {
    echo "FAIL: below 0.90"
    exit 1
}
grep -qF "AUC $(printf '%.3f' "$auc")" $demo/README.md || {
    echo "FAIL: $demo/README.md states another AUC"
    exit 1
}
