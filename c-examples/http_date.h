/* http_date.h: the dates of HTTP, which are always in GMT: RFC 9110, 5.6.7.
 *
 * Without gmtime_r(3) and strptime(3): they read the time zone and the locale, for which a C library allocates. Seconds
 * since 1970, proleptic Gregorian calendar, years 1 to 9999. */
#ifndef HTTP_DATE_H
#define HTTP_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HTTP_DATE_SIZE 29           /* "Sun, 06 Nov 1994 08:49:37 GMT" */
#define HTTP_DATE_NONE INT64_MIN    /* no date */
#define HTTP_DATE_FIRST INT64_C(-62135596800) /* 1 January of year 1 */
#define HTTP_DATE_LAST INT64_C(253402300799)  /* the end of year 9999 */

static const char http_days[] = "SunMonTueWedThuFriSat";
static const char http_months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* Days from 1 January 1970 to a date. Years are counted from March, so that a leap day is the last day of one; an era is
 * 400 years, which always have 146,097 days. (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".) */
static inline int64_t http_days_of(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2;
  int64_t era = (year >= 0 ? year : year - 399) / 400;
  int64_t of_era = year - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Writes a date; one that has no four-digit year becomes the nearest that has. */
static inline void http_date_write(int64_t seconds, char text[static HTTP_DATE_SIZE]) {
  if (seconds < HTTP_DATE_FIRST) seconds = HTTP_DATE_FIRST;
  if (seconds > HTTP_DATE_LAST) seconds = HTTP_DATE_LAST;
  int64_t days = seconds / 86400 - (seconds % 86400 < 0);
  int64_t of_day = seconds - days * 86400;
  int64_t week_day = ((days + 4) % 7 + 7) % 7; /* 1 January 1970 was a Thursday */
  int64_t shifted = days + 719468;             /* from 1 March of year 0, so never negative here */
  int64_t era = shifted / 146097;
  int64_t of_era = shifted - era * 146097;
  int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t shifted_month = (5 * of_year + 2) / 153;
  int64_t day = of_year - (153 * shifted_month + 2) / 5 + 1;
  int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  int64_t year = year_of_era + era * 400 + (month <= 2);

  memcpy(text, "Sun, 00 Jan 0000 00:00:00 GMT", HTTP_DATE_SIZE);
  memcpy(text, http_days + 3 * week_day, 3);
  memcpy(text + 8, http_months + 3 * (month - 1), 3);
  const struct {
    size_t at, digits;
    int64_t number;
  } numbers[] = {{5, 2, day},
                 {12, 4, year},
                 {17, 2, of_day / 3600},
                 {20, 2, of_day / 60 % 60},
                 {23, 2, of_day % 60}};
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    int64_t number = numbers[i].number;
    for (size_t digit = numbers[i].digits; digit-- > 0; number /= 10)
      text[numbers[i].at + digit] = (char)('0' + number % 10);
  }
}

/* The date of now, which is written once a second. */
static inline const char *http_date_at(int64_t now) {
  static char text[HTTP_DATE_SIZE];
  static int64_t written = HTTP_DATE_NONE;
  if (now != written) http_date_write(written = now, text);
  return text;
}

/* A number of that many digits, where a leading blank may stand for a zero; -1: it is none. */
static inline int64_t http_date_number(const char *text, size_t digits, bool blank) {
  int64_t number = 0;
  for (size_t i = 0; i < digits; i++) {
    if (i == 0 && blank && text[0] == ' ') continue;
    if (text[i] < '0' || text[i] > '9') return -1;
    number = number * 10 + (text[i] - '0');
  }
  return number;
}

/* Which of the three-letter names is it, from 0; -1: none. Case matters, as the RFC says. */
static inline int64_t http_date_name(const char *text, const char *names, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (memcmp(text, names + 3 * i, 3) == 0) return (int64_t)i;
  return -1;
}

/* The seconds of a date in one of the three forms that have to be understood, or HTTP_DATE_NONE:
 *   Sun, 06 Nov 1994 08:49:37 GMT    the one that is written today
 *   Sunday, 06-Nov-94 08:49:37 GMT   RFC 850; 50 years or more in the future of `now` mean the century before
 *   Sun Nov  6 08:49:37 1994         asctime(3)
 * The day of the week is not compared with the date. A leap second is the second after it. */
static inline int64_t http_date_read(const char *text, size_t size, int64_t now) {
  static const char *const long_days[] = {
      "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  int64_t day, month, year;
  const char *clock;
  const char *comma = memchr(text, ',', size);
  if (size == HTTP_DATE_SIZE && comma == text + 3) {
    if (http_date_name(text, http_days, 7) < 0 || text[4] != ' ' || text[7] != ' ' || text[11] != ' ' ||
        memcmp(text + 25, " GMT", 4) != 0)
      return HTTP_DATE_NONE;
    day = http_date_number(text + 5, 2, false);
    month = http_date_name(text + 8, http_months, 12) + 1;
    year = http_date_number(text + 12, 4, false);
    clock = text + 16;
  } else if (comma != NULL) {
    size_t name = (size_t)(comma - text);
    size_t known = 0;
    while (known < 7 && (strlen(long_days[known]) != name || memcmp(text, long_days[known], name) != 0)) known++;
    if (known == 7 || size != name + 24) return HTTP_DATE_NONE;
    const char *rest = comma + 1; /* " 06-Nov-94 08:49:37 GMT" */
    if (rest[0] != ' ' || rest[3] != '-' || rest[7] != '-' || memcmp(rest + 19, " GMT", 4) != 0) return HTTP_DATE_NONE;
    day = http_date_number(rest + 1, 2, false);
    month = http_date_name(rest + 4, http_months, 12) + 1;
    int64_t of_century = http_date_number(rest + 8, 2, false);
    if (of_century < 0) return HTTP_DATE_NONE;
    int64_t this_year = 1970 + now / 31556952; /* the mean year; good to a day */
    year = this_year - this_year % 100 + of_century;
    if (year > this_year + 50) year -= 100;
    clock = rest + 10;
  } else {
    if (size != 24 || http_date_name(text, http_days, 7) < 0 || text[3] != ' ' || text[7] != ' ' || text[19] != ' ')
      return HTTP_DATE_NONE;
    month = http_date_name(text + 4, http_months, 12) + 1;
    day = http_date_number(text + 8, 2, true);
    year = http_date_number(text + 20, 4, false);
    clock = text + 10;
  }
  /* " 08:49:37" */
  if (clock[0] != ' ' || clock[3] != ':' || clock[6] != ':') return HTTP_DATE_NONE;
  int64_t hour = http_date_number(clock + 1, 2, false);
  int64_t minute = http_date_number(clock + 4, 2, false);
  int64_t second = http_date_number(clock + 7, 2, false);
  static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || year < 1) return HTTP_DATE_NONE;
  int64_t leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  if (day < 1 || day > lengths[month - 1] + leap || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
      second > 60)
    return HTTP_DATE_NONE;
  return http_days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
}

#endif
