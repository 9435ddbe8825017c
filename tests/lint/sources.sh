#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sources.sh - writes src/meson.build and tests/meson.build from the files on disk, or says what would change.
#
#   tests/lint/sources.sh write     rewrite both files (only when they change, so that meson is not woken for nothing)
#   tests/lint/sources.sh check     exit 1 and name the file when a list is out of date
#
# Meson wants its files by name, which is good: what is built is what is reviewed. This keeps the names honest.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The .c files in a folder, as members of a meson list; paths are relative to where the list stands.
files_of() { # where-the-list-stands folder
    (cd "$1" && find "$2" -name '*.c' -type f 2>/dev/null | LC_ALL=C sort) |
        { grep -vx 'cli/main\.c' || true; } | sed "s/.*/  '&',/"
}
# The same as bare names of tests.
names_of() { # folder indent
    files_of tests "$1" | sed -E "/'.*\/.*\//d; s|^  '.*/(.*)\.c',$|$2'\1',|"
}

src_lists() {
    echo "# SPDX-License-Identifier: Apache-2.0"
    echo "# One list per folder, written by \`./dev sources\`. The order of the folders is the order of the layers."
    local folders=(base store ledger machine workflow agent team net model tool run session api embed cli) folder
    for folder in "${folders[@]}"; do
        printf '\n%s_sources = files(\n' "$folder"
        files_of src "$folder"
        echo ')'
    done
    printf '\nmain_source = %s\n' "$([ -f src/cli/main.c ] && echo "files('cli/main.c')" || echo '[]')"
    printf '\n# All of libperdure: everything but the command.\ncore_sources = [\n'
    printf '  %s_sources,\n' "${folders[@]}" | sed '/cli_sources/d'
    printf ']\n'
}

tests_lists() {
    cat <<'MESON'
# SPDX-License-Identifier: Apache-2.0
# One executable per file, one suite per folder; the lists are written by `./dev sources`.
# fuzz/ is built with clang and -Dfuzz=true; support/ holds what tests share.
suites = {
MESON
    local suite
    for suite in unit every team store sim wire crash; do
        echo "  '$suite': ["
        names_of "$suite" '    '
        echo '  ],'
    done
    printf '}\n\nembed_tests = [\n'
    names_of embed '  '
    printf ']\n\nfuzz_targets = [\n'
    names_of fuzz '  '
    printf ']\n\nsupport_sources = files(\n'
    files_of tests support
    echo ')'
    cat <<'MESON'

test_deps = [
  perdure_dep,
  dependency('cmocka', version: '>=1.1.5'),
  dependency('yajl'),
]
test_inc = include_directories('.')
support = support_sources.length() > 0 ? [static_library(
  'test_support', support_sources,
  include_directories: test_inc, dependencies: test_deps, build_by_default: false,
)] : []

foreach suite, names : suites
  test_env = environment({
    'PERDURE_TESTDATA': meson.current_source_dir() / suite / 'data',
    'PERDURE_SOURCE_ROOT': meson.project_source_root(),
    'CMOCKA_MESSAGE_OUTPUT': 'TAP',
    'ASAN_OPTIONS': 'detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1',
    'UBSAN_OPTIONS': 'print_stacktrace=1:halt_on_error=1',
    'TSAN_OPTIONS': 'halt_on_error=1:second_deadlock_stack=1',
  })
  if main_source.length() > 0
    test_env.set('PERDURE_BIN', perdure.full_path())
  endif
  foreach name : names
    exe = executable(
      suite + '-' + name,
      suite / name + '.c',
      include_directories: test_inc,
      dependencies: test_deps,
      link_with: support,
      build_by_default: false,
    )
    test(
      name, exe,
      suite: suite,
      env: test_env,
      depends: main_source.length() > 0 and suite in ['wire', 'sim'] ? [perdure] : [],
      timeout: 300,
    )
  endforeach
endforeach

# What a program that embeds the engine sees: the public header and the library.
embed_env = environment({
  'CMOCKA_MESSAGE_OUTPUT': 'TAP',
  'ASAN_OPTIONS': 'detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1',
  'UBSAN_OPTIONS': 'print_stacktrace=1:halt_on_error=1',
  'TSAN_OPTIONS': 'halt_on_error=1:second_deadlock_stack=1',
})
foreach name : embed_tests
  exe = executable(
    'embed-' + name, 'embed' / name + '.c',
    dependencies: [libperdure_dep, dependency('cmocka', version: '>=1.1.5'), dependency('threads')],
    build_by_default: false,
  )
  test(name, exe, suite: 'embed', env: embed_env, timeout: 300)
endforeach
foreach kind, with : {
  'shared': libperdure_dep,
  'static': declare_dependency(sources: libperdure_static, link_args: libperdure_static.full_path(),
                               include_directories: include_directories('../include'), dependencies: deps),
}
  exe = executable('embed-example-' + kind, '../examples/embed/main.c', dependencies: with, build_by_default: false)
  test('example-' + kind, files('embed/example.sh'), args: [exe, meson.project_source_root()], suite: 'embed', env: embed_env, timeout: 120)
endforeach
test('exports', files('embed/exports.sh'), args: [files('../include/perdure.h'), libperdure, libperdure_static], suite: 'embed')

# Not a test of its own: tests/tools/*.test.mjs drive it.
executable('tool-driver', 'tools/tool_driver.c', include_directories: test_inc, dependencies: test_deps, build_by_default: false)

if get_option('fuzz')
  foreach name : fuzz_targets
    executable(
      'fuzz-' + name,
      'fuzz' / name + '.c',
      include_directories: test_inc,
      dependencies: test_deps,
      c_args: ['-fsanitize=fuzzer'],
      link_args: ['-fsanitize=fuzzer'],
      build_by_default: true,
    )
  endforeach
endif
MESON
}

status=0
update() { # mode file text
    [ "$(cat "$2" 2>/dev/null)" != "$3" ] || return 0
    if [ "$1" = write ]; then
        printf '%s\n' "$3" >"$2"
        echo "wrote $2"
    else
        echo "$2: does not name the files that are there; run ./dev sources"
        diff <(cat "$2" 2>/dev/null) <(printf '%s\n' "$3") | sed -n '/^[<>]/s/^/    /p' | head -n 10
        status=1
    fi
}
case "${1:-}" in write | check) ;; *) echo "usage: sources.sh write|check" >&2; exit 2 ;; esac
update "$1" src/meson.build "$(src_lists)"
update "$1" tests/meson.build "$(tests_lists)"
exit $status
