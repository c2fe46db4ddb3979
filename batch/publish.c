#include "batch/publish.h"

#include "batch/progress.h"

#include <stdio.h>
#include <string.h>

int publish(struct generation_writer *writer, struct store *store, struct manifest *manifest,
    const struct publish_options *options, struct err *err)
{
    char name[STORE_GENERATION_MAX];
    strcpy(name, generation_name(writer));
    int result = generation_finish(writer, manifest, err);
    if (result == 0)
        result = options->no_promote ? generation_keep(writer, err) : generation_publish(writer, err);
    generation_end(writer);
    if (result < 0)
        return result;
    printf("{\"generation\":\"%s\",\"state\":\"%s\",\"users\":%zu,\"contents\":%zu}\n", name,
        options->no_promote ? "ready" : "live", manifest->users, manifest->contents);
    /* The new generation serves already: what is left behind is no failure of this run, but is told. */
    struct err why = ERR_INIT;
    if (!options->no_promote && generation_prune(store, (size_t)options->keep, &why) < 0)
        progress_say(false, "old generations were not removed: %s", why.message);
    return 0;
}
