# fish completion for autorelease. Made from the command line by `make docs`: do not edit.

function __autorelease_command --description 'The command on the line, if one is there'
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --config --ledger --log-level --log-format
                set -e words[1]
            case '-*'
            case '*'
                echo $words[1]
                return
        end
        set -e words[1]
    end
    echo none
end

complete -c autorelease -f
complete -c autorelease -n 'test (__autorelease_command) = none' -a tick -d 'Release what has expired, once'
complete -c autorelease -n 'test (__autorelease_command) = none' -a list-expired -d 'Show what a tick would release, and whether the guard would let it'
complete -c autorelease -n 'test (__autorelease_command) = none' -a upcoming -d 'Show what expires next, and when the guard will refuse because too much ends together'
complete -c autorelease -n 'test (__autorelease_command) = none' -a release -d 'Release these now, expired or not: without the guard, and without waiting after failures'
complete -c autorelease -n 'test (__autorelease_command) = none' -a hold -d 'Keep an allocation from being released, across all renewals, until it is unheld'
complete -c autorelease -n 'test (__autorelease_command) = none' -a unhold -d 'End the hold of an allocation; it is left alone for release.hold_grace more'
complete -c autorelease -n 'test (__autorelease_command) = none' -a retry -d 'Forget failures, so that the next tick tries again; with SIDs, acknowledge their conflicts, too'
complete -c autorelease -n 'test (__autorelease_command) = none' -a explain -d 'Show every fact and every decision about one allocation'
complete -c autorelease -n 'test (__autorelease_command) = none' -a history -d 'Show the ticks, newest first; of one allocation or of one tick, the events'
complete -c autorelease -n 'test (__autorelease_command) = none' -a health -d 'Tell whether the sweep is alive, for monitoring: exit code 0, or 9 with a line for each thing that is wrong'
complete -c autorelease -n 'test (__autorelease_command) = none' -a doctor -d 'Check the whole installation, each part with its remedy: exit code 0, or 9 where one of them fails'
complete -c autorelease -n 'test (__autorelease_command) = none' -a init -d 'Make the journal that the configuration names; or a new folder with configuration, ledger and journal'
complete -c autorelease -n 'test (__autorelease_command) = none' -l config -r -F -d 'The configuration [default: /etc/autorelease/config.toml].'
complete -c autorelease -n 'test (__autorelease_command) = none' -l ledger -x -d 'Another ledger than the configured one: sqlite:///PATH.'
complete -c autorelease -n 'test (__autorelease_command) = none' -l log-level -x -a 'debug info warning error' -d 'debug, info, warning or error.'
complete -c autorelease -n 'test (__autorelease_command) = none' -l log-format -x -a 'text json' -d 'text or json.'
complete -c autorelease -n 'test (__autorelease_command) = none' -s q -l quiet -d 'Log errors alone; no report where the exit code is 0, but for JSON.'
complete -c autorelease -n 'test (__autorelease_command) = none' -l version -d 'Show the version.'
complete -c autorelease -n 'test (__autorelease_command) = none' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = tick' -l once -d 'Sweep once. Required: the timer is the loop.'
complete -c autorelease -n 'test (__autorelease_command) = tick' -l dry-run -d 'Only show what a tick would do; change nothing.'
complete -c autorelease -n 'test (__autorelease_command) = tick' -l at -x -d 'With --dry-run, what if it were then: RFC 3339 with an offset or Z (2026-12-01T00:00:00Z), or +72h from now.'
complete -c autorelease -n 'test (__autorelease_command) = tick' -l json -d 'Print the report as one JSON object.'
complete -c autorelease -n 'test (__autorelease_command) = tick' -l confirm -x -d 'Answer the last refusal, which named the number N. [x>=0]'
complete -c autorelease -n 'test (__autorelease_command) = tick' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = list-expired' -l at -x -d 'What if it were then: RFC 3339 with an offset or Z (2026-12-01T00:00:00Z), or +72h from now.'
complete -c autorelease -n 'test (__autorelease_command) = list-expired' -l all -d 'Also what is skipped, and the invalid rows.'
complete -c autorelease -n 'test (__autorelease_command) = list-expired' -l format -x -a 'table plain json csv' -d 'Default: table on a terminal, plain in a pipe.'
complete -c autorelease -n 'test (__autorelease_command) = list-expired' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = upcoming' -l within -x -d 'How far to look ahead. [default: 72h]'
complete -c autorelease -n 'test (__autorelease_command) = upcoming' -l format -x -a 'table plain json' -d 'Default: table on a terminal, plain in a pipe.'
complete -c autorelease -n 'test (__autorelease_command) = upcoming' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = release' -l reason -x -d 'Why, for the journal.'
complete -c autorelease -n 'test (__autorelease_command) = release' -l yes -d 'Do not ask.'
complete -c autorelease -n 'test (__autorelease_command) = release' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = hold' -l reason -x -d 'Why, for whoever finds it. [required]'
complete -c autorelease -n 'test (__autorelease_command) = hold' -l until -x -d 'It ends by itself then: RFC 3339 with an offset or Z (2026-12-01T00:00:00Z), or +72h from now.'
complete -c autorelease -n 'test (__autorelease_command) = hold' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = unhold' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = retry' -l all -d 'All allocations; no conflict is acknowledged.'
complete -c autorelease -n 'test (__autorelease_command) = retry' -l provisioner -x -d 'All that this one serves; no conflict is acknowledged.'
complete -c autorelease -n 'test (__autorelease_command) = retry' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = explain' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = history' -l sid -x -d 'The events of this allocation.'
complete -c autorelease -n 'test (__autorelease_command) = history' -l tick -x -d 'This tick and its events.'
complete -c autorelease -n 'test (__autorelease_command) = history' -l format -x -a 'table plain json' -d 'Default: table on a terminal, plain in a pipe.'
complete -c autorelease -n 'test (__autorelease_command) = history' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = health' -l max-age -x -d 'How long ago a tick may have run through. [default: 2h]'
complete -c autorelease -n 'test (__autorelease_command) = health' -l max-overdue -x -d 'How long an expired VM may have been waiting. [default: 2h]'
complete -c autorelease -n 'test (__autorelease_command) = health' -l format -x -a 'plain json' -d 'The shape of the output. [default: plain]'
complete -c autorelease -n 'test (__autorelease_command) = health' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = doctor' -l format -x -a 'table plain json' -d 'Default: table on a terminal, plain in a pipe.'
complete -c autorelease -n 'test (__autorelease_command) = doctor' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = init' -l sample -d 'With DIR: fill its ledger with sample rows.'
complete -c autorelease -n 'test (__autorelease_command) = init' -s h -l help -d 'Show this message and exit.'
complete -c autorelease -n 'test (__autorelease_command) = init' -a '(__fish_complete_directories)'
