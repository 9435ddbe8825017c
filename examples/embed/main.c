/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - a program with an engine in it: runs a definition, shows what happens while it happens, asks you when the run asks.
 *
 *     cc main.c $(pkg-config --cflags --libs perdure) -o embed
 *     ./embed DATA-FOLDER DEFINITION.json [INPUT-JSON]
 *
 * Kill it in the middle and start it again with `./embed DATA-FOLDER --follow RUN`: the run goes on where it was. */
#include <perdure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int complain(const char *what, const struct pd_error *error)
{
    fprintf(stderr, "%s: %s%s%s (%s)\n", what, error->field, error->field[0] ? ": " : "", error->message, error->reason);
    return 1;
}

static char *read_file(const char *path)
{
    enum { FILE_MAX = 1 << 20 };
    FILE  *file = fopen(path, "r");
    char  *text = file ? calloc(1, FILE_MAX + 1) : NULL;
    size_t n = text ? fread(text, 1, FILE_MAX, file) : 0;
    if (file)
        fclose(file);
    if (!n) {
        fprintf(stderr, "%s: cannot be read\n", path);
        free(text);
        return NULL;
    }
    return text;
}

/* The question is in the run: {"human_prompt": ..., "approval_id": ...}. The answer is JSON: "yes", {"approve": true} ... */
static int ask_person(struct pd_engine *engine, const char *run, struct pd_error *error)
{
    char  answer[4096];
    char *json;
    if (pd_run_get(engine, run, &json, error) < 0)
        return complain("get", error);
    printf("the run asks: %s\nanswer (JSON): ", json);
    fflush(stdout);
    pd_free(json);
    if (!fgets(answer, sizeof answer, stdin))
        return 1;
    return pd_run_answer(engine, run, NULL, answer, error) < 0 ? complain("answer", error) : 0;
}

static int follow(struct pd_engine *engine, const char *run, struct pd_error *error)
{
    struct pd_events *events;
    const char       *json;
    int               code = pd_events_open(engine, run, NULL, 0, &events, error), status = PD_RUNNING;
    if (code < 0)
        return complain("follow", error);
    while ((code = pd_events_next(events, 200, &json, error)) != PD_END && code >= 0) {
        if (code == PD_OK)
            printf("%s\n", json), fflush(stdout);
        else if (pd_run_wait(engine, run, 0, &status, error) == PD_OK && status == PD_WAITING && ask_person(engine, run, error))
            break;
    }
    if (code < 0)
        complain("follow", error);
    pd_events_close(events);
    return code != PD_END;
}

static int show_end(struct pd_engine *engine, const char *run, struct pd_error *error)
{
    char *json;
    if (pd_run_get(engine, run, &json, error) < 0)
        return complain("get", error);
    printf("%s\n", json);
    pd_free(json);
    return pd_run_output(engine, run, &json, error) < 0 ? complain("output", error) : (pd_free(json), 0);
}

static int start(struct pd_engine *engine, const char *path, const char *input, char run[PD_ID_SIZE], struct pd_error *error)
{
    struct pd_run_config config = PD_RUN_CONFIG_INIT;
    char                *definition = read_file(path);
    config.definition = definition;
    config.input = input;
    int code = definition ? pd_run_start(engine, &config, run, error) : PD_OK;
    free(definition);
    if (code < 0)
        return complain(path, error);
    return definition == NULL;
}

int main(int argc, char **argv)
{
    struct pd_config  config = PD_CONFIG_INIT;
    struct pd_engine *engine;
    struct pd_error   error;
    char              run[PD_ID_SIZE] = "";
    if (argc < 3) {
        fprintf(stderr, "usage: %s DATA-FOLDER DEFINITION.json [INPUT-JSON] | DATA-FOLDER --follow RUN\n", argv[0]);
        return 2;
    }
    config.data = argv[1];
    if (pd_open(&config, &engine, &error) < 0)
        return complain("open", &error);
    int failed = 0;
    if (strcmp(argv[2], "--follow") == 0 && argc > 3 && strlen(argv[3]) < sizeof run)
        strcpy(run, argv[3]);
    else
        failed = start(engine, argv[2], argc > 3 ? argv[3] : NULL, run, &error);
    if (!failed) {
        fprintf(stderr, "perdure %s, run %s\n", pd_version(), run);
        failed = follow(engine, run, &error) || show_end(engine, run, &error);
    }
    pd_close(engine);
    return failed;
}
