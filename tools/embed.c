/* SPDX-License-Identifier: Apache-2.0 */
/* embed.c - at build time: embed OUT NAME FILE... writes a C source with the bytes of the files, as the array NAME of struct
 * embedded (base/embedded.h), in the order given, with an entry without a name behind the last one. */
#include <stdio.h>
#include <string.h>

static int put_bytes(FILE *out, const char *path, int no)
{
    FILE *in = fopen(path, "rb");
    if (!in) {
        perror(path);
        return 1;
    }
    int c, column = 0;
    fprintf(out, "static const unsigned char bytes_%d[] = {", no);
    while ((c = fgetc(in)) != EOF)
        fprintf(out, "%s%d,", column++ % 32 ? "" : "\n", c);
    fprintf(out, "\n0 };\n");
    int bad = ferror(in);
    fclose(in);
    return bad;
}

int main(int argc, char **argv)
{
    FILE *out = argc > 3 ? fopen(argv[1], "wb") : NULL;
    int   bad = 0;
    if (!out) {
        fprintf(stderr, "usage: embed OUT NAME FILE...\n");
        return 2;
    }
    fprintf(out, "#include \"base/embedded.h\"\n");
    for (int i = 3; i < argc && !bad; i++)
        bad = put_bytes(out, argv[i], i);
    fprintf(out, "const struct embedded %s[] = {\n", argv[2]);
    for (int i = 3; i < argc; i++) {
        const char *slash = strrchr(argv[i], '/');
        fprintf(out, "    { \"%s\", (const char *)bytes_%d, sizeof bytes_%d - 1 },\n", slash ? slash + 1 : argv[i], i, i);
    }
    fprintf(out, "    { 0 },\n};\n");
    return fclose(out) || bad;
}
