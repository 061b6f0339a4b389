# bash completion for autorelease. Made from the command line by `make docs`: do not edit.

_autorelease() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= kind= words= place
    # What is typed as --name=value arrives as three words.
    if [[ $word == = ]]; then
        word=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((place = 1; place < COMP_CWORD; place++)); do
        case ${COMP_WORDS[place]} in
            --config | --ledger | --log-level | --log-format)
                ((place++))
                [[ ${COMP_WORDS[place]} == = ]] && ((place++))
                ;;
            -*) ;;
            *)
                command=${COMP_WORDS[place]}
                break
                ;;
        esac
    done
    case $command,$previous in
        ,--config) kind=files ;;
        ,--ledger) kind=nothing ;;
        ,--log-level) kind=words words='debug info warning error' ;;
        ,--log-format) kind=words words='text json' ;;
        tick,--at) kind=nothing ;;
        tick,--confirm) kind=nothing ;;
        list-expired,--at) kind=nothing ;;
        list-expired,--format) kind=words words='table plain json csv' ;;
        upcoming,--within) kind=nothing ;;
        upcoming,--format) kind=words words='table plain json' ;;
        release,--reason) kind=nothing ;;
        hold,--reason) kind=nothing ;;
        hold,--until) kind=nothing ;;
        retry,--provisioner) kind=nothing ;;
        history,--sid) kind=nothing ;;
        history,--tick) kind=nothing ;;
        history,--format) kind=words words='table plain json' ;;
        health,--max-age) kind=nothing ;;
        health,--max-overdue) kind=nothing ;;
        health,--format) kind=words words='plain json' ;;
        doctor,--format) kind=words words='table plain json' ;;
    esac
    if [[ -z $kind ]]; then
        kind=words
        case $command in
            '') words='--config --ledger --log-level --log-format -q --quiet --version -h --help'; [[ $word == -* ]] || words='tick list-expired upcoming release hold unhold retry explain history health doctor init' ;;
            tick) words='--once --dry-run --at --json --confirm -h --help' ;;
            list-expired) words='--at --all --format -h --help' ;;
            upcoming) words='--within --format -h --help' ;;
            release) words='--reason --yes -h --help' ;;
            hold) words='--reason --until -h --help' ;;
            unhold) words='-h --help' ;;
            retry) words='--all --provisioner -h --help' ;;
            explain) words='-h --help' ;;
            history) words='--sid --tick --format -h --help' ;;
            health) words='--max-age --max-overdue --format -h --help' ;;
            doctor) words='--format -h --help' ;;
            init) words='--sample -h --help'; [[ $word == -* ]] || kind=folders ;;
        esac
    fi
    case $kind in
        files | folders) compopt -o filenames 2>/dev/null ;;
    esac
    mapfile -t COMPREPLY < <(
        case $kind in
            files) compgen -f -- "$word" ;;
            folders) compgen -d -- "$word" ;;
            words) compgen -W "$words" -- "$word" ;;
        esac
    )
}

complete -F _autorelease autorelease
