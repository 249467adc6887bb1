/* A folder's day as a C programmer would serve it: libfcgi, libpq, threads with a connection each. It does what the
 * worker does for such a request (two prepared statements, JSON, a line of log) and nothing for its safety: a peer to
 * measure against, compiled by tests/bench/run.
 *
 * Environment: DATABASE_URL, SCOPE and DAYS (the statements of src/database/sql). Listens on standard
 * input.
 */
#include <fcgiapp.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* nginx keeps up to 16 connections for each of its two processes, and each holds a thread. */
#define THREADS 40
#define ROWS 1000

static PGresult *run(PGconn *connection, const char *name, int count, const char *const *values)
{
    PGresult *result = PQexecPrepared(connection, name, count, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s: %s", name, PQerrorMessage(connection));
        exit(1);
    }
    return result;
}

static void answer(PGconn *connection, FCGX_Request *request)
{
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    const char *uri = FCGX_GetParam("REQUEST_URI", request->envp);
    char company[64], organization[64], folder[64], token[128], from[16], day[16], out[65536];
    if (!uri || sscanf(uri, "/stats/%63[^/]/%63[^/]/%63[^?]?token=%127[^&]&daterange=%8[0-9]", company, organization, folder,
                       token, from) != 5) {
        FCGX_FPrintF(request->out, "Status: 404 Not Found\r\nContent-Type: text/html\r\n\r\n{}");
        return;
    }
    const char *asked[] = {token, "false", company, organization, folder};
    PGresult *scope = run(connection, "scope", 5, asked);
    snprintf(day, sizeof day, "%.4s-%.2s-%.2s", from, from + 4, from + 6);
    const char *days[] = {PQgetvalue(scope, 0, PQfnumber(scope, "organization_id")), day, day,
                          PQgetvalue(scope, 0, PQfnumber(scope, "folder_id"))};
    PGresult *groups = run(connection, "days", 4, days);
    long long calls = 0, duration = 0;
    int rows = PQntuples(groups);
    for (int row = 0; row < rows; row++) {
        calls += atoll(PQgetvalue(groups, row, 3));
        duration += atoll(PQgetvalue(groups, row, 4));
    }
    int at = snprintf(out, sizeof out, "Status: 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: private, "
                      "no-store\r\n\r\n[{\"date\":\"%s\",\"folder\":\"%s\",\"calls\":%lld,\"avg_duration_seconds\":%.3f,\"agents\":[",
                      from, folder, calls, calls ? duration / 1000.0 / calls : 0.0);
    for (int row = 0; row < rows && row < ROWS && at < 60000; row++)
        if (!PQgetisnull(groups, row, 2))
            at += snprintf(out + at, sizeof out - at, "%s{\"agent_id\":\"%s\",\"calls\":%s,\"avg_duration_seconds\":%.3f}", row ? "," : "",
                           PQgetvalue(groups, row, 2), PQgetvalue(groups, row, 3),
                           atoll(PQgetvalue(groups, row, 4)) / 1000.0 / atoll(PQgetvalue(groups, row, 3)));
    at += snprintf(out + at, sizeof out - at, "]}]");
    FCGX_PutStr(out, at, request->out);
    PQclear(groups);
    PQclear(scope);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    fprintf(stderr, "GET /stats/%s/%s/%s 200 %.1f ms\n", company, organization, folder,
            (ended.tv_sec - began.tv_sec) * 1e3 + (ended.tv_nsec - began.tv_nsec) / 1e6);
}

static void *work(void *unused)
{
    PGconn *connection = PQconnectdb(getenv("DATABASE_URL"));
    FCGX_Request request;
    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(connection));
        exit(1);
    }
    PQclear(PQprepare(connection, "scope", getenv("SCOPE"), 0, NULL));
    PQclear(PQprepare(connection, "days", getenv("DAYS"), 0, NULL));
    FCGX_InitRequest(&request, 0, 0);
    for (;;) {
        /* No lock: it waits here for the next request of a kept connection, too. */
        if (FCGX_Accept_r(&request) < 0)
            return unused;
        answer(connection, &request);
        FCGX_Finish_r(&request);
    }
}

int main(void)
{
    pthread_t threads[THREADS];
    FCGX_Init();
    for (int n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, work, NULL);
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    return 0;
}
