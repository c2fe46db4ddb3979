/* Shortest decimals by the Schubfach method: Raffaello Giulietti, "The Schubfach way to render doubles" (2020), here
 * for float32, where the products of his section 9 fit into 96 bits.
 *
 * Let v = c 2^q. All reals that round to v lie between the middles to its neighbours. With 10^k the largest power of ten
 * that is no wider than that interval, it holds at least one multiple of 10^k, and at most one of 10^(k+1). So if
 * there is one of 10^(k+1), that is the answer, less the zeros at its end; else it is the nearer one of the two
 * multiples of 10^k around v, or the only one of them inside. No loop tries lengths: a table look-up and three
 * products tell which it is.
 *
 * All quantities are counted in quarters of 10^k, where the bounds are even or odd multiples of 2^(q-1) or 2^(q-2), and
 * rounded to odd: whatever was cut off leaves the lowest bit set, so that they compare with whole quarters as the
 * exact ones do. */
#include "core/decimal.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

enum { MANTISSA_BITS = 23, POWER_MIN = -31, POWER_MAX = 45 };

/* 10^i in 64 bits, rounded up, for i from POWER_MIN: ceil(10^i 2^(63 - floor(log2(10^i)))). */
static const uint64_t scaled_powers[POWER_MAX - POWER_MIN + 1] = {0x81ceb32c4b43fcf5, 0xa2425ff75e14fc32,
    0xcad2f7f5359a3b3f, 0xfd87b5f28300ca0e, 0x9e74d1b791e07e49, 0xc612062576589ddb, 0xf79687aed3eec552,
    0x9abe14cd44753b53, 0xc16d9a0095928a28, 0xf1c90080baf72cb2, 0x971da05074da7bef, 0xbce5086492111aeb,
    0xec1e4a7db69561a6, 0x9392ee8e921d5d08, 0xb877aa3236a4b44a, 0xe69594bec44de15c, 0x901d7cf73ab0acda,
    0xb424dc35095cd810, 0xe12e13424bb40e14, 0x8cbccc096f5088cc, 0xafebff0bcb24aaff, 0xdbe6fecebdedd5bf,
    0x89705f4136b4a598, 0xabcc77118461cefd, 0xd6bf94d5e57a42bd, 0x8637bd05af6c69b6, 0xa7c5ac471b478424,
    0xd1b71758e219652c, 0x83126e978d4fdf3c, 0xa3d70a3d70a3d70b, 0xcccccccccccccccd, 0x8000000000000000,
    0xa000000000000000, 0xc800000000000000, 0xfa00000000000000, 0x9c40000000000000, 0xc350000000000000,
    0xf424000000000000, 0x9896800000000000, 0xbebc200000000000, 0xee6b280000000000, 0x9502f90000000000,
    0xba43b74000000000, 0xe8d4a51000000000, 0x9184e72a00000000, 0xb5e620f480000000, 0xe35fa931a0000000,
    0x8e1bc9bf04000000, 0xb1a2bc2ec5000000, 0xde0b6b3a76400000, 0x8ac7230489e80000, 0xad78ebc5ac620000,
    0xd8d726b7177a8000, 0x878678326eac9000, 0xa968163f0a57b400, 0xd3c21bcecceda100, 0x84595161401484a0,
    0xa56fa5b99019a5c8, 0xcecb8f27f4200f3a, 0x813f3978f8940985, 0xa18f07d736b90be6, 0xc9f2c9cd04674edf,
    0xfc6f7c4045812297, 0x9dc5ada82b70b59e, 0xc5371912364ce306, 0xf684df56c3e01bc7, 0x9a130b963a6c115d,
    0xc097ce7bc90715b4, 0xf0bdc21abb48db21, 0x96769950b50d88f5, 0xbc143fa4e250eb32, 0xeb194f8e1ae525fe,
    0x92efd1b8d0cf37bf, 0xb7abc627050305ae, 0xe596b7b0c643c71a, 0x8f7e32ce7bea5c70, 0xb35dbf821ae4f38c};

struct decimal {
    uint32_t digits;
    int exponent; /* digits x 10^exponent */
};

/* The three logarithms are exact for the exponents of float32 (the paper's section 6 has the method); >> rounds down. */
static int floor_log2_of_power(int i) /* of 10^i */
{
    return (i * 1741647) >> 19;
}

static int floor_log10(int q, bool three_quarters) /* of 2^q, or of 3/4 2^q */
{
    return (q * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

/* x power 2^-64, rounded to odd. The power is rounded up in its 64th bit, which must not look like a rest. */
static uint32_t scale(uint64_t power, uint32_t x)
{
    const uint64_t low = (power & UINT32_MAX) * x, high = (power >> 32) * x + (low >> 32);
    return (uint32_t)(high >> 32) | ((uint32_t)high > 1);
}

/* Of a finite value above 0 with these bits. */
static struct decimal shortest(uint32_t bits)
{
    const uint32_t fraction = bits & ((1u << MANTISSA_BITS) - 1), biased = bits >> MANTISSA_BITS;
    const uint32_t c = biased ? fraction | 1u << MANTISSA_BITS : fraction;
    const int q = (biased ? (int)biased : 1) - 127 - MANTISSA_BITS;
    /* Below a power of two the next number is half as far away. */
    const bool closer = fraction == 0 && biased > 1;
    const int k = floor_log10(q, closer);
    const int h = q + floor_log2_of_power(-k) + 1;
    const uint64_t power = scaled_powers[-k - POWER_MIN];
    const uint32_t v = scale(power, 4 * c << h);
    /* A bound rounds to v, and so belongs to the interval, if c is even. */
    const uint32_t low = scale(power, (4 * c - 2 + closer) << h) + (c & 1);
    const uint32_t high = scale(power, (4 * c + 2) << h) - (c & 1);

    /* Which of these holds is as good as random: written for the compiler to select, not to jump. */
    const uint32_t below = v / 4, tens = below / 10, middle = 4 * below + 2;
    const bool ten_down = low <= 40 * tens, ten_up = 40 * tens + 40 <= high;
    const bool ten = (ten_down != ten_up) & (below >= 10);
    const bool down = low <= 4 * below, up = 4 * below + 4 <= high;
    const bool nearest_up = v + (below & 1) > middle; /* of two equally near, the even one */
    const uint32_t one = below + (down != up ? up : nearest_up);
    return (struct decimal){ten ? tens + ten_up : one, k + ten};
}

/* ---- text ---- */

static const char pairs[200] = "0001020304050607080910111213141516171819"
                               "2021222324252627282930313233343536373839"
                               "4041424344454647484950515253545556575859"
                               "6061626364656667686970717273747576777879"
                               "8081828384858687888990919293949596979899";

static const uint64_t powers_of_ten[DECIMAL_UINT_MAX] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000,
    100000000, 1000000000, 10000000000, 100000000000, 1000000000000, 10000000000000, 100000000000000,
    1000000000000000, 10000000000000000, 100000000000000000, 1000000000000000000, 10000000000000000000u};

/* Of a value above 0: log10(2) times the number of its bits tells it, or one less. */
static size_t count_digits(uint64_t value)
{
    const size_t bits = 64 - (size_t)__builtin_clzll(value), least = bits * 1233 >> 12;
    return least + (value >= powers_of_ten[least]);
}

size_t decimal_format_uint(char out[DECIMAL_UINT_MAX], uint64_t value)
{
    const size_t count = value ? count_digits(value) : 1;
    size_t left = count;
    for (; left >= 2; value /= 100)
        memcpy(out + (left -= 2), pairs + value % 100 * 2, 2);
    if (left)
        *out = (char)('0' + value);
    return count;
}

/* Nine digits of a float, from the first that is not zero on: in registers, since a word that was just written in
 * pieces is slow to read. */
struct text {
    char first;
    uint64_t rest; /* the other eight as characters, the first of them lowest */
    size_t count;  /* of all, without the zeros at the end */
};

/* Two numbers of four digits, four of two, and eight of one side by side: all are divided at once, by multiplying.
 * 5243 / 2^19 is 1/100 for numbers below 10000, 103 / 2^10 is 1/10 for those below 100. */
static struct text spell(uint32_t digits, size_t count)
{
    const uint32_t nine = digits * (uint32_t)powers_of_ten[9 - count], eight = nine % 100000000;
    uint64_t rest = eight / 10000 | (uint64_t)(eight % 10000) << 32;
    const uint64_t hundreds = (rest * 5243 >> 19) & 0x0000007F0000007F;
    rest = hundreds | (rest - 100 * hundreds) << 16;
    const uint64_t ten = (rest * 103 >> 10) & 0x000F000F000F000F;
    rest = ten | (rest - 10 * ten) << 8;
    return (struct text){.first = (char)('0' + nine / 100000000),
        .rest = rest | 0x3030303030303030,
        .count = rest ? 9 - (size_t)__builtin_clzll(rest) / 8 : 1};
}

/* Whole words are put here and below; what is too much is overwritten, or behind the end. */
static void put_word(char *to, uint64_t word)
{
    word = htole64(word);
    memcpy(to, &word, sizeof word);
}

/* 1.25e-05 */
static char *put_scientific(char *to, struct text text, int exponent)
{
    to[0] = text.first;
    to[1] = '.';
    put_word(to + 2, text.rest);
    to += text.count > 1 ? text.count + 1 : 1;
    *to++ = 'e';
    *to++ = exponent < 0 ? '-' : '+';
    memcpy(to, pairs + 2 * (exponent < 0 ? -exponent : exponent), 2);
    return to + 2;
}

/* exponent is that of the first digit: -4 to 8. */
static char *put_fixed(char *to, struct text text, int exponent)
{
    if (exponent < 0) {
        memcpy(to, "0.000000", 8);
        to += 1 - exponent;
        *to = text.first;
        put_word(to + 1, text.rest);
        return to + text.count;
    }
    const size_t whole = (size_t)exponent + 1;
    *to = text.first;
    put_word(to + 1, text.rest);
    if (text.count <= whole)
        return to + whole;
    to[whole] = '.';
    put_word(to + whole + 1, text.rest >> 8 * (whole - 1));
    return to + text.count + 1;
}

size_t decimal_format_float(char out[DECIMAL_FLOAT_MAX], float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    char *to = out;
    *to = '-';
    to += bits >> 31;
    bits &= INT32_MAX;
    if (!bits) {
        *to++ = '0';
        return (size_t)(to - out);
    }
    const struct decimal decimal = shortest(bits);
    const size_t count = count_digits(decimal.digits);
    const struct text text = spell(decimal.digits, count);
    const int exponent = decimal.exponent + (int)count - 1;
    to = exponent < -4 || exponent >= (text.count > 6 ? (int)text.count : 6)
             ? put_scientific(to, text, exponent)
             : put_fixed(to, text, exponent);
    return (size_t)(to - out);
}
