"""Instructions that can be checked, by the names and arguments of IFEval (Zhou et al. 2023, arXiv 2311.07911).

Columns of the row: `instruction_id_list`, such as ["punctuation:no_comma"], and `kwargs`, as many objects of arguments;
both as in google/IFEval. An answer is right when it obeys every one, read strictly: "cats" does not hold the keyword
"cat". A row that asks for a language, or for what has no check here, is unverifiable.
"""

import json
import re
from operator import eq, ge, gt, le, lt

RELATIONS = {"at least": ge, "at most": le, "less than": lt, "more than": gt, "exactly": eq}
WORD = re.compile(r"\w+(?:['’-]\w+)*")
END = re.compile(r"[.!?]+[\"'”’)\]*]*(?=\s+(\S)|$)")  # of a sentence, and how the next one begins
SHORT_FORM = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|e\.g|i\.e|[A-Z])\.$")
BULLET = r"(?m)^\s*[*-][ \t]+\S"
HIGHLIGHT = r"\*\*[^*\n]*\w[^*\n]*\*\*|(?<!\*)\*(?!\s)[^*\n]*\w[^*\n]*\*(?!\*)"
RESPONSES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def verify(answer, row):
    names, arguments = row["instruction_id_list"], row["kwargs"]
    if not names or len(names) != len(arguments):
        return None, "the row needs instructions, and arguments for each"
    text = answer.strip()
    if not text:
        return False, "empty"
    for name, given in zip(names, arguments):
        try:
            is_obeyed = CHECKS[name](text, given)
        except (TypeError, KeyError) as error:
            return None, f"not known here: {name}, or its arguments ({error!r})"
        if not is_obeyed:
            return False, f"not obeyed, {name}"
    return True, "all obeyed"


def counted(count, number, relation="at least"):
    """A check that compares a count with the argument `number`; the relation may be an argument's name."""
    return lambda text, given: RELATIONS[given.get(relation, relation)](
        count(text, given), given[number]
    )


def found(pattern):
    return lambda text, given: len(re.findall(pattern, text))


def n_of(phrase, text):
    """How often a phrase stands in a text, in either case and not within words."""
    return len(re.findall(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.I))


def sentences(text, given):
    """Their number, with and without those that begin small, as after "Wait..."; both must obey."""
    counts, start = [0, 0], 0
    for end in END.finditer(text):
        is_end = not SHORT_FORM.search(text[max(0, end.end() - 6) : end.end()])
        if is_end and WORD.search(text, start, end.end()):
            counts[0] += 1
            counts[1] += not (end[1] or "A").islower()
            start = end.end()
    rest = bool(WORD.search(text, start))
    obeys = RELATIONS[given["relation"]]
    return all(obeys(count + rest, given["num_sentences"]) for count in counts)


def paragraphs(text, given):
    parts = text.split("***")
    return len(parts) == given["num_paragraphs"] and all(map(WORD.search, parts))


def starts_paragraph(text, given):
    parts = re.split(r"\n\s*\n", text)
    if len(parts) != given["num_paragraphs"]:
        return False
    first = WORD.search(parts[given["nth_paragraph"] - 1])
    return first is not None and first[0].lower() == given["first_word"].lower()


def sections(text, given):
    parts = re.split(rf"(?m)^\s*{re.escape(given['section_spliter'])}\s*\d+\b", text)[1:]
    return len(parts) >= given["num_sections"] and all(map(WORD.search, parts))


def is_json(text, given):
    def once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")

    fenced = re.fullmatch(r"(?is)```(?:json)?\s*\n(.*?)```", text)
    try:
        json.loads(fenced[1] if fenced else text, object_pairs_hook=once, parse_constant=int)
    except (ValueError, RecursionError):
        return False
    return True


def two_responses(text, given):
    parts = [part.strip() for part in text.split("******")]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def repeats(text, given):
    prompt = given["prompt_to_repeat"].strip().lower()
    return text.lower().startswith(prompt) and len(text) > len(prompt)


CHECKS = {
    "change_case:capital_word_frequency": counted(
        lambda text, given: sum(len(word) > 1 and word.isupper() for word in WORD.findall(text)),
        "capital_frequency",
        "capital_relation",
    ),
    "change_case:english_capital": lambda text, given: text.isupper(),
    "change_case:english_lowercase": lambda text, given: text.islower(),
    "combination:repeat_prompt": repeats,
    "combination:two_responses": two_responses,
    "detectable_content:number_placeholders": counted(found(r"\[[^\[\]]+\]"), "num_placeholders"),
    "detectable_content:postscript": lambda text, given: re.search(
        rf"(?m)^\s*{re.escape(given['postscript_marker'])}\s*\w", text
    ),
    "detectable_format:constrained_response": lambda text, given: text in RESPONSES,
    "detectable_format:json_format": is_json,
    "detectable_format:multiple_sections": sections,
    "detectable_format:number_bullet_lists": counted(found(BULLET), "num_bullets", "exactly"),
    "detectable_format:number_highlighted_sections": counted(found(HIGHLIGHT), "num_highlights"),
    "detectable_format:title": found(r"<<[^\n<>]*\w[^\n<>]*>>"),
    "keywords:existence": lambda text, given: all(n_of(word, text) for word in given["keywords"]),
    "keywords:forbidden_words": lambda text, given: (
        not any(n_of(word, text) for word in given["forbidden_words"])
    ),
    "keywords:frequency": counted(
        lambda text, given: n_of(given["keyword"], text), "frequency", "relation"
    ),
    "keywords:letter_frequency": counted(
        lambda text, given: text.lower().count(given["letter"].lower()),
        "let_frequency",
        "let_relation",
    ),
    "length_constraints:nth_paragraph_first_word": starts_paragraph,
    "length_constraints:number_paragraphs": paragraphs,
    "length_constraints:number_sentences": sentences,
    "length_constraints:number_words": counted(found(WORD), "num_words", "relation"),
    "punctuation:no_comma": lambda text, given: not found("[,،、，]")(text, given),
    "startend:end_checker": lambda text, given: (
        text.strip('"').lower().endswith(given["end_phrase"].strip().lower())
    ),
    "startend:quotation": lambda text, given: len(text) > 2 and text[0] == text[-1] == '"',
}
