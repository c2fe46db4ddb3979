#include "batch/eval_agreement.h"

#include "core/array.h"
#include "core/metrics.h"

#include <math.h>
#include <stdlib.h>

void eval_agreement_done(struct eval_agreement *agreement)
{
    free(agreement->scratch);
    *agreement = (struct eval_agreement){0};
}

void eval_errors_add(struct eval_errors *errors, const float *found, const float *reference, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        const double off = (double)found[i] - (double)reference[i];
        difference += off * off;
        norm += (double)reference[i] * (double)reference[i];
    }
    const double error = difference == 0 ? 0 : norm == 0 ? (double)INFINITY : sqrt(difference / norm);
    errors->sum += error;
    errors->largest = error > errors->largest ? error : errors->largest;
    errors->count++;
}

int eval_agreement_rank(struct eval_agreement *agreement, const uint32_t *found, const uint32_t *reference,
    size_t count, struct err *err)
{
    if (count < 2)
        return 0;
    const int result = array_grow(
        &agreement->scratch, &agreement->scratch_size, 2 * count + 1, sizeof *agreement->scratch, err);
    if (result < 0)
        return result;
    const double tau = metrics_tau(found, reference, count, agreement->scratch);
    if (!agreement->rankings || tau < agreement->tau_least)
        agreement->tau_least = tau;
    agreement->tau_sum += tau;
    agreement->rankings++;
    agreement->same_first += found[0] == reference[0];
    return 0;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* sum / count; NaN, which is null, over nothing. */
static json_t *mean(double sum, size_t count)
{
    return number(count ? sum / (double)count : (double)NAN);
}

static json_t *errors_json(const struct eval_errors *errors)
{
    return json_pack("{s:I, s:o, s:o}", "count", (json_int_t)errors->count, "mean",
        mean(errors->sum, errors->count), "largest", number(errors->count ? errors->largest : (double)NAN));
}

json_t *eval_agreement_json(const struct eval_agreement *agreement, struct err *err)
{
    const size_t rankings = agreement->rankings;
    json_t *object = json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "rankings", (json_int_t)rankings, "tau",
        mean(agreement->tau_sum, rankings), "tau_least",
        number(rankings ? agreement->tau_least : (double)NAN), "same_first",
        mean((double)agreement->same_first, rankings), "b_error", errors_json(&agreement->contents),
        "a_error", errors_json(&agreement->users), "score_error", errors_json(&agreement->scores));
    if (!object)
        err_set(err, ERR_NOMEM, "out of memory");
    return object;
}
