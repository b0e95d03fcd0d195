"""PF's rules and states: enough of pf.conf(5) for anchors, tables and a plain host or gateway."""

from kernel import best, inside, network

SERVICES = {"22": "ssh", "25": "smtp", "80": "http", "443": "https"}
NUMBERS = {name: number for number, name in SERVICES.items()}


class Syntax(Exception):
    """parse.y: yyerror."""


def words_of(line):
    line = line.replace("{", " { ").replace("}", " } ").replace(",", " , ")
    # Labels and names of ours have no blanks in them.
    return line.replace("! ", "!").split()


def braces(words):
    """One word, or the words of a list in braces."""
    if words[:1] != ["{"]:
        return [words.pop(0)]
    end = words.index("}")
    listed = [word for word in words[1:end] if word != ","]
    del words[: end + 1]
    return listed


def host(words, rule, side):
    hosts = braces(words)
    if len(hosts) != 1:
        raise Syntax
    text = hosts[0]
    if text != "any" and not text.lstrip("!").startswith("<"):
        text = network(text) if "/" in text else text
        rule["af"] = "inet6" if ":" in text else "inet"
    rule[side] = text
    ports = [None]
    if words[:1] == ["port"]:
        words.pop(0)
        if words[:1] == ["="]:
            words.pop(0)
        ports = [NUMBERS.get(port, port) for port in braces(words)]
        if not all(port.isdigit() for port in ports):
            raise Syntax
    return ports


def parse(line):
    """The rules that one line of pf.conf makes: lists are expanded (parse.y: expand_rule)."""
    words = words_of(line)
    try:
        return parse_words(words)
    except (IndexError, ValueError):
        raise Syntax from None


def parse_words(words):
    rule = {"quick": False, "dir": None, "on": None, "af": None, "from": "any", "to": "any", "label": None, "return": False}
    kind = words.pop(0)
    rule["action"] = kind
    if kind == "anchor":
        rule["name"] = words.pop(0).strip('"')
    elif kind == "block":
        if words[:1] in (["drop"], ["return"]):
            rule["return"] = words.pop(0) == "return"
    elif kind != "pass":
        raise Syntax
    protos, sports, dports = [None], [None], [None]
    rule["flags"] = kind == "pass"
    rule["state"] = kind == "pass"
    while words:
        word = words.pop(0)
        if word in ("in", "out"):
            rule["dir"] = word
        elif word == "quick":
            rule["quick"] = True
        elif word == "on":
            rule["on"] = words.pop(0)
        elif word in ("inet", "inet6"):
            rule["af"] = word
        elif word == "proto":
            protos = braces(words)
        elif word == "from":
            sports = host(words, rule, "from")
        elif word == "to":
            dports = host(words, rule, "to")
        elif word == "flags":
            rule["flags"] = words.pop(0) == "S/SA"
        elif word in ("keep", "no"):
            rule["state"] = word == "keep" and words.pop(0) == "state"
        elif word == "label":
            rule["label"] = words.pop(0).strip('"')
        elif word not in ("all", "log"):
            raise Syntax
    made = []
    for proto in protos:
        for sport in sports:
            for dport in dports:
                if (sport or dport) and proto not in ("tcp", "udp"):
                    raise Syntax  # "port only applies to tcp/udp"
                made.append(dict(rule, proto=proto, sport=sport, dport=dport))
    return made


def shown(rule):
    """As pfctl -sr prints it (pfctl_parser.c: print_rule, print_fromto, print_port)."""
    out = {"block": "block return" if rule["return"] else "block drop", "pass": "pass", "anchor": "anchor"}[rule["action"]]
    if rule["action"] == "anchor":
        out += ' "%s"' % rule["name"]
    for text in (rule["dir"], "quick" if rule["quick"] else None, rule["on"] and "on " + rule["on"], rule["af"]):
        out += " " + text if text else ""
    out += " proto " + rule["proto"] if rule["proto"] else ""
    if rule["from"] == rule["to"] == "any" and not rule["sport"] and not rule["dport"]:
        out += " all"
    else:
        for side, port in (("from", rule["sport"]), ("to", rule["dport"])):
            out += " %s %s" % (side, rule[side].replace("!", "! "))
            out += " port = " + SERVICES.get(port, port) if port else ""
    if rule["action"] == "pass":
        out += " flags S/SA" if rule["flags"] and rule["proto"] in (None, "tcp") else ""
        out += " keep state" if rule["state"] else " no state"
    return out + (' label "%s"' % rule["label"] if rule["label"] else "")


def in_table(pf, anchor, name, addr, count=None):
    """pf_table.c: pfr_match_addr; a table that an anchor has not is looked for in the main ruleset (pfr_attach_table)."""
    for where in (anchor, ""):
        table = pf["anchors"].get(where, {"tables": {}})["tables"].get(name)
        if table is not None:
            found = best(addr, table["entries"])
            if found is None or table["entries"][found][0]:
                return False
            if count is not None and table["counters"]:
                count.append(table["entries"][found])
            return True
    return False


def is_host(pf, anchor, text, addr, count):
    if text == "any":
        return True
    negated, text = text.startswith("!"), text.lstrip("!")
    if text.startswith("<"):
        found = in_table(pf, anchor, text.strip("<>"), addr, None if negated else count)
    else:
        found = inside(addr, text)
    return found != negated


def matches(pf, anchor, rule, packet, count):
    return (
        rule["dir"] in (None, packet["dir"])
        and rule["on"] in (None, packet["on"])
        and rule["af"] in (None, "inet6" if ":" in packet["src"] else "inet")
        and rule["proto"] in (None, packet["proto"])
        and (rule["sport"] is None or rule["sport"] == str(packet["sport"]))
        and (rule["dport"] is None or rule["dport"] == str(packet["dport"]))
        # pf.conf(5): a pass rule that keeps state is for the packet that opens a TCP connection.
        and (not rule["flags"] or packet["proto"] != "tcp" or packet["syn"])
        and is_host(pf, anchor, rule["from"], packet["src"], count)
        and is_host(pf, anchor, rule["to"], packet["dst"], count)
    )


def walk(pf, anchor, lines, packet, verdict):
    """The last rule that matches, or the first quick one (pf.c: pf_test_rule, pf_step_into_anchor). True stops."""
    for line in lines:
        for rule in parse(line):
            count = []
            if not matches(pf, anchor, rule, packet, count):
                continue
            if rule["action"] == "anchor":
                before = verdict[0]
                # "name/*" is the rulesets below the name, not the one of the name.
                names = [rule["name"]]
                if rule["name"].endswith("/*"):
                    names = sorted(n for n in pf["anchors"] if n.startswith(rule["name"][:-1]))
                for name in names:
                    if walk(pf, name, pf["anchors"].get(name, {"rules": []})["rules"], packet, verdict):
                        return True
                if rule["quick"] and verdict[0] is not before:
                    return True
                continue
            verdict[0], verdict[1] = rule, count
            if rule["quick"]:
                return True
    return False


def key_of(packet):
    """pf.c: STATE_LOOKUP, pf_find_state. The first address of a key is the far end of a packet that comes in."""
    ends = [packet["src"], packet["sport"], packet["dst"], packet["dport"]]
    return ends if packet["dir"] == "in" else ends[2:] + ends[:2]


def test(pf, packet):
    """Whether it passes: states first, then rules (pf.c: pf_test). A packet that a rule passes makes a state."""
    if not pf["enabled"] or packet["on"] in pf["skip"]:
        return True
    key = key_of(packet)
    for state in pf["states"]:
        if state["proto"] == packet["proto"] and state["wire" if packet["dir"] == "in" else "stack"] == key:
            return True
    verdict = [None, []]
    walk(pf, "", pf["main"], packet, verdict)
    rule, count = verdict
    if rule is None:
        return True  # the default rule passes, without a state
    if rule["action"] == "block":
        for entry in count[:1]:
            entry[1 if packet["dir"] == "in" else 2] += 1
        return False
    if rule["state"]:
        add_state(pf, packet["dir"], packet["proto"], key, key)
    return True


def add_state(pf, direction, proto, wire, stack):
    pf["next_id"] += 1
    pf["states"].append({"id": pf["next_id"], "dir": direction, "proto": proto, "wire": wire, "stack": stack})
