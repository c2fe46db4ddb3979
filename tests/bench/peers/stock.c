/* Peer: the service in C from stock libraries: libmicrohttpd, jansson, OpenBLAS. All contents in memory as float32.
 *
 *     stock DATA PORT WORKERS
 *
 * DATA holds blocks.npy (N x 2n x d: B over gelu(B W_s)), user.npy (U x m x d), *.ids and meta.json. A worker is a
 * daemon of libmicrohttpd's of its own with an epoll thread; connections go to them in turn, because the library's own
 * pool leaves some threads idle. Nothing here is the project's code. */
#include <arpa/inet.h>
#include <cblas.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BODY_MAX = 1 << 20,
    CHUNK = 64
}; /* candidates a product: their blocks stay in the second-level cache */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- data ---- */

struct matrices {
    float *data;
    size_t count, rows;
};

struct names {
    char *text;
    const char **id;
    uint32_t *slot; /* index + 1 */
    size_t count, slots;
};

static size_t d;
static struct matrices blocks, users;
static struct names content_names, user_names;
static const char *generation;

static char *read_whole(const char *folder, const char *name, size_t *size)
{
    char path[4096];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0)
        die(path);
    *size = (size_t)status.st_size;
    char *bytes = mmap(NULL, *size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        die("mmap");
    madvise(bytes, *size + 1, MADV_HUGEPAGE);
    for (size_t used = 0; used < *size;) {
        const ssize_t got = read(fd, bytes + used, *size - used);
        if (got <= 0)
            die(path);
        used += (size_t)got;
    }
    close(fd);
    return bytes;
}

static void read_matrices(struct matrices *out, const char *folder, const char *name)
{
    size_t size;
    char *bytes = read_whole(folder, name, &size);
    const char *shape = strstr(bytes + 10, "'shape': (");
    if (!shape || sscanf(shape + 10, "%zu, %zu, %zu", &out->count, &out->rows, &d) != 3)
        die(name);
    out->data = (float *)(void *)(bytes + 10 + (unsigned char)bytes[8] + 256 * (unsigned char)bytes[9]);
}

static size_t hash(const char *id)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *id; id++)
        h = (h ^ (unsigned char)*id) * 1099511628211u;
    return (size_t)(h ^ h >> 29);
}

static long find(const struct names *names, const char *id)
{
    for (size_t at = hash(id) & (names->slots - 1);; at = (at + 1) & (names->slots - 1)) {
        if (!names->slot[at])
            return -1;
        if (strcmp(names->id[names->slot[at] - 1], id) == 0)
            return (long)names->slot[at] - 1;
    }
}

static void read_names(struct names *out, const char *folder, const char *name, size_t count)
{
    size_t size;
    out->text = read_whole(folder, name, &size);
    for (out->slots = 4; out->slots < 2 * count;)
        out->slots *= 2;
    out->id = calloc(count, sizeof *out->id);
    out->slot = calloc(out->slots, sizeof *out->slot);
    if (!out->id || !out->slot)
        die("calloc");
    char *at = out->text;
    for (size_t i = 0; i < count; i++) {
        char *end = strchr(at, '\n');
        if (!end)
            die(name);
        *end = '\0';
        out->id[i] = at;
        size_t slot = hash(at) & (out->slots - 1);
        while (out->slot[slot])
            slot = (slot + 1) & (out->slots - 1);
        out->slot[slot] = (uint32_t)i + 1;
        at = end + 1;
    }
    out->count = count;
}

/* ---- a request ---- */

struct scored {
    size_t index;
    float score;
};

struct worker {
    struct MHD_Daemon *daemon;
    float *gathered, *product; /* CHUNK x rows x d, CHUNK x rows x m */
    size_t chunk;              /* candidates a product; 1: not gathered */
};

struct request {
    char *body;
    size_t used;
};

/* sum of K softmax(L): count similarities and logits */
static float attend(const float *k, const float *l, size_t count)
{
    float max = l[0], sum = 0, weighted = 0;
    for (size_t i = 1; i < count; i++)
        max = l[i] > max ? l[i] : max;
    for (size_t i = 0; i < count; i++) {
        const float w = expf(l[i] - max);
        sum += w;
        weighted += w * k[i];
    }
    return weighted / sum;
}

/* Measured on Zen 5, 1,000 candidates of 8 x 512 by 32 users' rows: OpenBLAS's AVX-512 kernels take 2.0 ms for a product a
 * candidate, which reads it where it lies, and a third more for gathered ones; its AVX2 kernels twice as long. */
static size_t chunk_of_kernel(void)
{
    return strcmp(openblas_get_corename(), "Haswell") == 0 || strcmp(openblas_get_corename(), "Zen") == 0
               ? CHUNK
               : 1;
}

static void score(struct worker *worker, struct scored *scored, size_t count, const float *user)
{
    const size_t block = blocks.rows * d, pairs = blocks.rows * users.rows, chunk = worker->chunk;
    for (size_t first = 0; first < count; first += chunk) {
        const size_t some = count - first < chunk ? count - first : chunk;
        const float *source = blocks.data + scored[first].index * block;
        if (chunk > 1) {
            for (size_t i = 0; i < some; i++)
                memcpy(worker->gathered + i * block, blocks.data + scored[first + i].index * block,
                    block * sizeof(float));
            source = worker->gathered;
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)(some * blocks.rows), (int)users.rows,
            (int)d, 1, source, (int)d, user, (int)d, 0, worker->product, (int)users.rows);
        for (size_t i = 0; i < some; i++) {
            const float *product = worker->product + i * pairs;
            scored[first + i].score = attend(product, product + pairs / 2, pairs / 2);
        }
    }
}

static int descending(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

static json_t *error_of(const char *message)
{
    return json_pack("{s{ss}}", "error", "message", message);
}

static json_t *rank(struct worker *worker, const json_t *ask, unsigned *status)
{
    const json_t *candidates = json_object_get(ask, "candidates");
    const char *user = json_string_value(json_object_get(ask, "user"));
    *status = 400;
    if (!user || !json_is_array(candidates))
        return error_of("user and candidates are wanted");
    const long which = find(&user_names, user);
    *status = 404;
    if (which < 0)
        return error_of("unknown user");
    const size_t count = json_array_size(candidates);
    struct scored *scored = malloc((count + 1) * sizeof *scored);
    json_t *missing = json_array(), *ranking = json_array();
    size_t found = 0;
    for (size_t i = 0; scored && i < count; i++) {
        const char *id = json_string_value(json_array_get(candidates, i));
        const long index = id ? find(&content_names, id) : -1;
        if (index >= 0)
            scored[found++].index = (size_t)index;
        else if (id)
            json_array_append_new(missing, json_pack("{ssss}", "id", id, "reason", "not_found"));
    }
    score(worker, scored, found, users.data + (size_t)which * users.rows * d);
    qsort(scored, found, sizeof *scored, descending);
    const json_int_t top_k = json_integer_value(json_object_get(ask, "top_k"));
    if (top_k > 0 && (size_t)top_k < found)
        found = (size_t)top_k;
    for (size_t i = 0; i < found; i++) {
        json_t *item = json_object();
        json_object_set_new_nocheck(item, "id", json_string_nocheck(content_names.id[scored[i].index]));
        json_object_set_new_nocheck(item, "score", json_real((double)scored[i].score));
        json_array_append_new(ranking, item);
    }
    free(scored);
    *status = 200;
    return json_pack("{sssssssoso}", "user", user, "generation", generation, "user_status", "present",
        "ranking", ranking, "missing", missing);
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(answer);
    if (!text)
        return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/json");
    const enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result handle(void *closure, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *size, void **state)
{
    (void)method;
    (void)version;
    struct request *request = *state;
    if (!request) {
        *state = calloc(1, sizeof *request);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*size) {
        if (*size > BODY_MAX - request->used)
            return MHD_NO;
        char *more = realloc(request->body, request->used + *size);
        if (!more)
            return MHD_NO;
        request->body = more;
        memcpy(request->body + request->used, data, *size);
        request->used += *size;
        *size = 0;
        return MHD_YES;
    }
    if (strcmp(url, "/livez") == 0)
        return reply(connection, 200, json_pack("{ss}", "status", "ok"));
    unsigned status = 400;
    json_t *ask = request->used ? json_loadb(request->body, request->used, 0, NULL) : NULL;
    json_t *answer = ask ? rank(closure, ask, &status) : error_of("malformed JSON");
    json_decref(ask);
    return reply(connection, status, answer);
}

static void completed(
    void *closure, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)closure;
    (void)connection;
    (void)code;
    struct request *request = *state;
    if (request)
        free(request->body);
    free(request);
    *state = NULL;
}

/* ---- the whole ---- */

static void start_worker(struct worker *worker)
{
    worker->gathered = aligned_alloc(64, CHUNK * blocks.rows * d * sizeof(float));
    worker->product = aligned_alloc(64, CHUNK * blocks.rows * users.rows * sizeof(float));
    if (!worker->gathered || !worker->product)
        die("aligned_alloc");
    worker->chunk = chunk_of_kernel();
    worker->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC,
        0, NULL, NULL, handle, worker, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (!worker->daemon)
        die("MHD_start_daemon");
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: stock DATA PORT WORKERS\n", stderr);
        return 2;
    }
    const size_t workers = (size_t)atoi(argv[3]);
    struct worker *worker = calloc(workers, sizeof *worker);
    size_t size;
    json_t *meta = json_loads(read_whole(argv[1], "meta.json", &size), 0, NULL);
    generation = json_string_value(json_object_get(meta, "generation"));
    read_matrices(&blocks, argv[1], "blocks.npy");
    read_matrices(&users, argv[1], "user.npy");
    read_names(&content_names, argv[1], "content.ids", blocks.count);
    read_names(&user_names, argv[1], "user.ids", users.count);
    openblas_set_num_threads(1);
    json_object_seed(0);
    for (size_t i = 0; i < workers; i++)
        start_worker(&worker[i]);

    const int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {
        AF_INET, htons((uint16_t)atoi(argv[2])), {htonl(INADDR_LOOPBACK)}, {0}};
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 511) != 0)
        die("listen");
    for (size_t next = 0;; next++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        const int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        MHD_add_connection(worker[next % workers].daemon, fd, (struct sockaddr *)&peer, len);
    }
}
