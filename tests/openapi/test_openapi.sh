#!/bin/sh
# An OpenAPI linter over the two documents. It is an npm package whose version, with those of all that it needs, is fixed by
# package-lock.json; npm puts it into the build folder. test_document.sh checks what needs no linter.
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build}"
for need in node npm; do
    command -v $need >/dev/null || {
        echo "SKIPPED: $need is not installed (sh deploy/install-packages npm)"
        exit 77
    }
done

linter=$BUILD/openapi-lint
mkdir -p "$linter"
cp tests/openapi/lint.js "$linter/"
if ! cmp -s tests/openapi/package-lock.json "$linter/fetched"; then
    cp tests/openapi/package.json tests/openapi/package-lock.json "$linter/"
    (cd "$linter" && npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=1000 \
        --fetch-retry-maxtimeout=3000 >npm.log 2>&1) || {
        tail -n 5 "$linter/npm.log"
        grep -qE 'ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|network|CERT|UNABLE_TO_' "$linter/npm.log" || exit 1
        echo "SKIPPED: the network, from which npm fetches the linter, is missing or not trusted"
        exit 77
    }
    cp tests/openapi/package-lock.json "$linter/fetched"
fi

node "$linter/lint.js" server/openapi.json server/openapi_admin.json || exit 1

# It finds what it should: one mistake of each of these kinds.
failed=0
mistake() {
    sed "$2" server/openapi.json >"$linter/wrong.json"
    cmp -s server/openapi.json "$linter/wrong.json" && echo "the mistake '$1' changes nothing" && failed=1
    node "$linter/lint.js" "$linter/wrong.json" >"$linter/wrong.log" 2>&1 && echo "the linter does not see: $1" && failed=1
}
mistake "a reference that leads nowhere" 's,"#/components/schemas/Ranking","#/components/schemas/Rankings",'
mistake "a word that OpenAPI does not know" 's/"operationId"/"operationid"/'
mistake "a path parameter that nobody describes" 's,"/users/{id}","/users/{name}",'
[ "$failed" = 0 ] && echo "the linter has nothing to say"
exit "$failed"
