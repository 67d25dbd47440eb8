/* pd_spd: the same bits on each instruction set, closed forms, what is refused, and no step outside the memory.
 * Against pyRiemann, scikit-learn and mpmath: tests/unit/test_spd.py. */
#include "block.h"
#include "check.h"
#include "pd_spd.h"
#include "pd_spd_eigen.h"
#include "random.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define dot JOIN(dot, SUFFIX)
#define add JOIN(add, SUFFIX)
#define swap_both JOIN(swap_both, SUFFIX)
#define largest_first JOIN(largest_first, SUFFIX)
#define rotate JOIN(rotate, SUFFIX)
#define pd_spd_cholesky JOIN(cholesky, SUFFIX)
#define pd_spd_divide JOIN(divide, SUFFIX)
#define pd_spd_jacobi JOIN(jacobi, SUFFIX)
#define pd_spd_product JOIN(product, SUFFIX)
#define pd_spd_compose JOIN(compose, SUFFIX)

#define VERSIONED "../../csrc/pd_spd_eigen.c"
#include "versions.h"

static double *doubles(size_t n)
{
    return block_at(32, n * sizeof(double));
}

static double *random_spd(uint32_t n)
{
    double *a = malloc((size_t)n * n * sizeof *a), *v = malloc((size_t)n * n * sizeof *v);
    for (uint32_t i = 0; i < n * n; i++) v[i] = uniform() - 0.5;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++) {
            double sum = i == j ? 0.01 : 0;
            for (uint32_t k = 0; k < n; k++) sum += v[i * n + k] * v[j * n + k];
            a[i * n + j] = sum;
        }
    }
    free(v);
    return a;
}

struct kit {
    int (*cholesky)(double *, uint32_t, double *, uint32_t *);
    void (*divide)(const double *, double *, uint32_t);
    int (*jacobi)(double *, uint32_t, double *);
    void (*product)(const double *, const double *, uint32_t, double *);
    void (*compose)(const double *, const double *, uint32_t, double *);
};

/* All of the numerics once; what came of it into out [4][n][stride]. */
static void through(const struct kit *f, const double *a, uint32_t n, double *out)
{
    const size_t stride = pd_spd_stride(n), one = n * stride;
    double *padded = doubles(one), *squares = doubles(stride);
    uint32_t *order = malloc(n * sizeof *order);
    memset(padded, 0, one * sizeof *padded);
    memset(squares, 0, stride * sizeof *squares);
    for (uint32_t i = 0; i < n; i++) memcpy(padded + i * stride, a + i * n, n * sizeof *padded);
    CHECK(f->cholesky(padded, n, out, order) == 0, "");
    memcpy(out + one, out, one * sizeof *out);
    CHECK(f->jacobi(out + one, n, squares) == 0, "");
    f->product(out, out + one, n, out + 2 * one);
    f->compose(out + one, squares, n, out + 3 * one);
    f->divide(out, out + 2 * one, n);
    free(padded);
    free(squares);
    free(order);
}

#define KIT(set) {cholesky_##set, divide_##set, jacobi_##set, product_##set, compose_##set}

static void test_instruction_sets_agree(void)
{
    static const struct kit kits[] = EACH_VERSION(KIT);
    for (uint32_t n = 1; n < 20; n++) {
        const size_t all = 4 * n * pd_spd_stride(n);
        double *a = random_spd(n), *one = doubles(all), *other = doubles(all);
        through(&kits[0], a, n, one);
        for (uint32_t version = 1; version < VERSIONS; version++) {
            if (!machine_runs(version)) continue;
            through(&kits[version], a, n, other);
            CHECK(!memcmp(one, other, all * sizeof *one), "%u, %s", n, version_names[version]);
        }
        free(a);
        free(one);
        free(other);
    }
}

#undef pd_spd_cholesky
#undef pd_spd_divide
#undef pd_spd_jacobi
#undef pd_spd_product
#undef pd_spd_compose

static void test_each_size_stays_in_its_memory(void)
{
    for (uint32_t n = 1; n <= PD_SPD_MAX; n += n < 10 ? 1 : 59) {
        const size_t half = (size_t)n * (n + 1) / 2;
        double *work = doubles(pd_spd_work(n)), *a = random_spd(n), *b = random_spd(n), d, e, s = 0;
        double *values = malloc(n * sizeof *values), *t = malloc(half * sizeof *t);
        double *out = malloc((size_t)n * n * sizeof *out), *two = malloc(2 * (size_t)n * n * sizeof *two);
        memcpy(two, a, (size_t)n * n * sizeof *two);
        memcpy(two + n * n, b, (size_t)n * n * sizeof *two);
        CHECK(pd_spd_distance(a, b, n, &d, work) == 0 && pd_spd_distance(b, a, n, &e, work) == 0, "");
        CHECK(fabs(d - e) <= 1e-11 * d, "%u: %.17g %.17g", n, d, e);
        CHECK(pd_spd_eigen(a, n, values, out, work) == 0, "%u", n);
        CHECK(pd_spd_tangent(a, b, n, t, work) == 0, "%u", n);
        CHECK(pd_spd_untangent(t, b, n, out, work) == 0, "%u", n);
        double worst = 0, largest = 0;
        for (uint32_t i = 0; i < n * n; i++) {
            worst = fmax(worst, fabs(out[i] - a[i]));
            largest = fmax(largest, fabs(a[i]));
        }
        CHECK(worst <= 1e-9 * largest, "%u: %g", n, worst);
        for (int f = PD_SPD_SQRT; f <= PD_SPD_EXP; f++) CHECK(!pd_spd_apply(f, a, n, out, work), "");
        if (n < 70) {
            uint32_t rounds;
            CHECK(pd_spd_mean(two, 2, n, NULL, 1e-8, 50, out, &rounds, NULL, work) == 0, "%u", n);
            CHECK(pd_spd_distance(a, out, n, &e, work) == 0, "");
            CHECK(fabs(2 * e - d) <= 1e-7 * d, "%u: the mean of two is half way", n);
        }
        CHECK(pd_spd_covariance(PD_SPD_OAS, two, n, 2 * n, n, &s, out, work) == 0, "");
        free(work);
        free(a);
        free(b);
        free(values);
        free(t);
        free(out);
        free(two);
    }
}

static void test_what_is_no_spd_matrix(void)
{
    double work[PD_SPD_MAX] __attribute__((aligned(32))), d, s = 2;
    const double one[4] = {1, 0, 0, 1}, singular[4] = {1, 1, 1, 1}, hole[4] = {1, NAN, NAN, 1};
    const double crooked[4] = {1, 0.1, 0, 1}, huge[3] = {1e7, 0, 0};
    double out[4];
    CHECK(pd_spd_work(2) <= PD_SPD_MAX, "");
    CHECK(pd_spd_work(0) == 0 && pd_spd_work(PD_SPD_MAX + 1) == 0, "");
    CHECK(pd_spd_distance(one, one, 2, &d, work) == 0 && d == 0, "");
    CHECK(pd_spd_distance(one, singular, 2, &d, work) == -EDOM && isnan(d), "");
    CHECK(pd_spd_distance(hole, one, 2, &d, work) == -EINVAL && isnan(d), "");
    CHECK(pd_spd_distance(crooked, one, 2, &d, work) == -EINVAL && isnan(d), "");
    CHECK(pd_spd_distance(one, one, 0, &d, work) == -EINVAL && isnan(d), "");
    CHECK(pd_spd_untangent(huge, one, 2, out, work) == -ERANGE && isnan(out[3]), "");
    CHECK(pd_spd_mean(one, 1, 2, NULL, 1e-8, 0, out, NULL, NULL, work) == -ERANGE, "");
    CHECK(pd_spd_mean(one, 0, 2, NULL, 1e-8, 9, out, NULL, NULL, work) == -EINVAL, "");
    CHECK(pd_spd_apply(4, one, 2, out, work) == -EINVAL, "");
    CHECK(pd_spd_covariance(PD_SPD_FIXED, one, 2, 2, 2, &s, out, work) == -EINVAL, "");
    CHECK(pd_spd_covariance(PD_SPD_SAMPLE, one, 2, 1, 2, &s, out, work) == -EINVAL, "");
    CHECK(pd_spd_covariance(PD_SPD_SAMPLE, hole, 2, 2, 2, &s, out, work) == -EINVAL, "");
}

int main(void)
{
    test_instruction_sets_agree();
    test_each_size_stays_in_its_memory();
    test_what_is_no_spd_matrix();
    return check_report("spd");
}
