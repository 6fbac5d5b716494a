"""What participants read: complete in every language, safe from values, and replaceable by a study's own texts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import tomli_w

from benchmark.documents import read_toml
from benchmark.errors import DocumentError, HostingError, StudyError, StudyMismatch
from benchmark.experiment import Experiment, read_experiment
from benchmark.study import Study
from benchmark.texts import LARGEST_TEXT
from tests.hosted import hosted_experiment
from webapp.participation import COLOUR_VISION
from webapp.recruitment import OUTCOMES
from webapp.wording import FIELDS, SHIPPED, Wording, fields, fill, shipped_languages

LANGUAGES = shipped_languages()
PAGES = sorted(path.stem for path in (SHIPPED / "en").glob("*.md"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own" / "en").mkdir(parents=True)
    return tmp_path / "own"


def shipped(language: str) -> Wording:
    return Wording(language, Path("nowhere"))


# -------------------------------------------------------------------- what ships


def test_english_and_german_ship() -> None:
    assert LANGUAGES == ["de", "en"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_page_with_a_title_and_the_same_values(language: str) -> None:
    assert sorted(path.stem for path in (SHIPPED / language).glob("*.md")) == PAGES
    for page in PAGES:
        text, english = ((SHIPPED / name / f"{page}.md").read_text(encoding="utf-8") for name in (language, "en"))
        assert text.startswith("# "), page
        assert len(text.strip().splitlines()) > 1, page
        assert fields(text) == fields(english) <= set(FIELDS.get(page, ())), page
        assert "<" not in text, page


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_label_with_the_same_values(language: str) -> None:
    labels, english = (read_toml(SHIPPED / name / "labels.toml")["labels"] for name in (language, "en"))
    assert list(labels) == list(english)
    for name, text in labels.items():
        assert text.strip(), name
        assert fields(text) == fields(english[name]), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_asks_the_same_quiz(language: str) -> None:
    quiz, english = shipped(language).quiz(), shipped("en").quiz()
    assert [(len(question.options), question.right) for question in quiz] == [
        (len(question.options), question.right) for question in english
    ]
    assert len({question.right for question in quiz}) > 1
    assert quiz[0].answer in quiz[0].options


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_outcome_refusal_and_answer_has_its_words(language: str) -> None:
    wording = shipped(language)
    for outcome in (*OUTCOMES, "returned", "withdrawn"):
        assert wording.page(f"end-{outcome.replace(' ', '-')}")
    for refusal in ("closed", "paused", "already took part", "no link"):
        assert wording.page(f"refused-{refusal.replace(' ', '-')}")
    for answer in COLOUR_VISION:
        assert wording.label(f"colour_{answer.replace(' ', '_')}")
    assert wording.pages("instructions") == ["instructions-1", "instructions-2", "instructions-3"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_consent_says_who_is_responsible_and_what_it_needs_to_say(language: str) -> None:
    values = {name: f"value of {name}" for name in FIELDS["consent"]}
    consent = shipped(language).page("consent", **values)
    for name in FIELDS["consent"]:
        assert f"value of {name}".replace("_", r"\_") in consent
    words = {"en": ["stop at any time", "IP address", "receipt code", "GDPR", "18 years"],
             "de": ["jederzeit aufhören", "IP-Adresse", "Quittungscode", "DSGVO", "18 Jahre"]}  # fmt: skip
    assert all(word in consent for word in words[language])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_label_of_a_trial_names_a_side_that_could_be_right(language: str) -> None:
    labels = shipped(language).labels
    for name in ("trial_upper", "trial_lower", "trial_example", "trial_left", "trial_right"):
        assert not re.search(r"max|min|activ|aktiv|correct|richtig|top|query", labels[name], re.IGNORECASE)


def test_a_withdrawn_person_is_told_nothing_that_depends_on_their_answers() -> None:
    assert not fields((SHIPPED / "en" / "end-withdrawn.md").read_text(encoding="utf-8"))


# -------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    ["<script>alert(1)</script>", "[click](javascript:alert(1))", "![x](https://elsewhere.example/x.png)",
     "**bold** _it_ ~~no~~ `code`", "$x^2$", ":red[x] :smile: https://elsewhere.example", "&lt;b&gt;",
     "a\n# title\n- b",
     "a\r\n\r\n<iframe>", "a\n===\n", "| a | b |", "{contact}"],
)  # fmt: skip
def test_a_value_is_shown_as_it_is(value: str) -> None:
    shown = fill("before {name} after", {"name": value, "contact": "secret"})
    assert "\n" not in shown
    assert "secret" not in shown
    inside = shown.removeprefix("before ").removesuffix(" after")
    for mark in "`*_{}[]<>()#!|~$:&":
        assert not re.search(rf"(?<!\\){re.escape(mark)}", inside), (mark, inside)
    assert re.sub(r"\\(.)", r"\1", inside) == " ".join(value.split())


def test_a_backslash_in_a_value_escapes_nothing_of_ours() -> None:
    assert fill("{a}", {"a": r"\*x"}) == r"\\\*x"


def test_labels_take_values_as_they_are_because_they_are_shown_as_text() -> None:
    assert shipped("en").label("trial_confidence", position="Upper picture", confidence="sure") == "Upper picture, sure"


def test_a_value_that_is_not_given_is_left_standing() -> None:
    assert fill("{a} {b}", {"a": 1}) == "1 {b}"


# -------------------------------------------------------------------- own texts


def test_own_texts_replace_shipped_ones_and_leave_the_rest(own: Path) -> None:
    (own / "en" / "start.md").write_text("# Go\n\n{trials} tasks.", encoding="utf-8")
    (own / "en" / "labels.toml").write_text('[labels]\nstart = "Go"\n', encoding="utf-8")
    wording = Wording("en", own)
    assert wording.page("start", trials=45) == "# Go\n\n45 tasks."
    assert wording.label("start") == "Go"
    assert wording.label("finish") == shipped("en").label("finish")
    assert wording.page("practice") == shipped("en").page("practice")


def test_pages_of_instructions_can_be_added_replaced_and_left_out(own: Path) -> None:
    (own / "en" / "instructions-2.md").write_text("\n", encoding="utf-8")
    (own / "en" / "instructions-10.md").write_text("# Last", encoding="utf-8")
    assert Wording("en", own).pages("instructions") == ["instructions-1", "instructions-3", "instructions-10"]


def test_a_language_that_is_missing_says_what_to_do(own: Path) -> None:
    with pytest.raises(HostingError, match=r"no texts in the language 'fr'. Shipped: de, en. Put your own into .*fr"):
        Wording("fr", own)


def test_an_own_translation_is_filled_up_with_english(own: Path) -> None:
    (own / "fr").mkdir()
    (own / "fr" / "labels.toml").write_text('[labels]\nstart = "Commencer"\n', encoding="utf-8")
    wording = Wording("fr", own)
    assert wording.label("start") == "Commencer"
    assert wording.label("finish") == "Finish"
    assert wording.page("practice") == shipped("en").page("practice")


def test_a_country_falls_back_on_its_language() -> None:
    assert shipped("de-CH").label("start") == shipped("de").label("start")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cosent.md", b"# x", "Did you mean 'consent'"),
        ("consent.md", b"{ethic_approval}", "Did you mean 'ethics_approval'"),
        ("practice.md", b"{trials}", "knows no values"),
        ("start.md", b"\xff\xfe", "save it as UTF-8"),
        ("labels.toml", b'[labels]\nstrat = "Go"', "Did you mean 'start'"),
        ("labels.toml", b"[labels]\nstart = 3", "start must be text"),
        ("labels.toml", b'[labels]\ntrial_progress = "{nummer}"', "Did you mean 'number'"),
        ("labels.toml", b'start = "Go"', "has no table"),
        ("labels.toml", b"[labels", "is not valid TOML"),
        ("quiz.toml", b'[[questions]]\ntext = "x"\noptions = ["a", "b"]\nright = 3', "there are only 2 options"),
        ("quiz.toml", b'[[questions]]\ntext = "x"\noptions = ["a", "a"]\nright = 1', "appears twice"),
        ("quiz.toml", b'[[questions]]\ntext = "x"\noption = ["a", "b"]\nright = 1', "options"),
        ("quiz.toml", b"questions = []", "at least 1"),
    ],
)
def test_a_wrong_own_text_is_refused_before_anybody_sees_it(own: Path, name: str, content: bytes, words: str) -> None:
    (own / "en" / name).write_bytes(content)
    with pytest.raises(HostingError) as caught:
        Wording("en", own)
    assert words in str(caught.value)
    assert name in str(caught.value)


def test_the_consent_hash_follows_what_is_shown(own: Path) -> None:
    values = dict.fromkeys(FIELDS["consent"], "x")
    before = Wording("en", own).consent_hash(**values)
    assert before == Wording("en", own).consent_hash(**values)
    assert before != Wording("en", own).consent_hash(**values | {"contact": "y"})
    (own / "en" / "consent.md").write_text("# Other", encoding="utf-8")
    assert before != Wording("en", own).consent_hash(**values)


# -------------------------------------------------------------------- texts of a study


class Source:
    """An experiment file with texts beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.study = root / "study"
        (root / "words" / "en").mkdir(parents=True)
        self.write("start.md", "# Own start")
        (root / "consent.md").write_text("# Own consent", encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        (self.root / "words" / "en" / name).write_text(text, encoding="utf-8")

    def experiment(self, **sections: object) -> Experiment:
        values = hosted_experiment().model_dump(mode="json", exclude_none=True)
        values["texts"] = {"folder": "words", "consent": "consent.md"}
        values |= sections
        path = self.root / "experiment.toml"
        path.write_text(tomli_w.dumps(values), encoding="utf-8")
        return read_experiment(path)

    def build(self, **sections: object) -> Study:
        return Study.create(self.study, self.experiment(**sections))

    def read(self, name: str) -> str:
        return (self.study / "texts" / "en" / name).read_text(encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def test_a_study_takes_its_texts_over(source: Source) -> None:
    source.write(".hidden.md", "x")
    source.write("notes.txt", "x")
    source.build()
    assert source.read("start.md") == "# Own start"
    assert source.read("consent.md") == "# Own consent"
    assert sorted(path.name for path in (source.study / "texts" / "en").iterdir()) == ["consent.md", "start.md"]
    assert Wording("en", source.study / "texts").page("consent") == "# Own consent"


def test_building_again_takes_changed_texts_over_and_drops_those_that_are_gone(source: Source) -> None:
    source.write("practice.md", "# Own practice")
    source.build()
    source.write("start.md", "# Newer start")
    (source.root / "words" / "en" / "practice.md").unlink()
    source.build()
    assert source.read("start.md") == "# Newer start"
    assert not (source.study / "texts" / "en" / "practice.md").exists()


def test_edits_in_the_study_stay_until_their_source_changes_too(source: Source) -> None:
    source.build()
    edited = source.study / "texts" / "en" / "start.md"
    edited.write_text("# By hand", encoding="utf-8")
    source.build()
    assert source.read("start.md") == "# By hand"
    source.write("start.md", "# Newer start")
    with pytest.raises(StudyError, match=r"start\.md was edited in the study"):
        source.build()
    assert source.read("start.md") == "# By hand"
    edited.unlink()
    source.build()
    assert source.read("start.md") == "# Newer start"


def test_texts_that_were_put_into_the_study_by_hand_are_kept(source: Source) -> None:
    source.build(texts={})
    by_hand = source.study / "texts" / "en" / "start.md"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_text("# By hand", encoding="utf-8")
    source.build(texts={})
    assert source.read("start.md") == "# By hand"
    with pytest.raises(StudyError, match="edited in the study"):
        source.build()


def test_a_study_without_own_texts_has_no_folder_for_them(source: Source) -> None:
    source.build(texts={})
    assert not (source.study / "texts").exists()


def test_a_study_that_has_moved_goes_on_with_what_it_took_over(source: Source) -> None:
    source.build()
    frozen = read_experiment(source.study / "experiment.toml")
    (source.root / "words").rename(source.root / "gone")
    (source.root / "consent.md").rename(source.root / "gone.md")
    Study.create(source.study, frozen)
    assert source.read("start.md") == "# Own start"
    assert source.read("consent.md") == "# Own consent"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"folder": "nowhere"}, r"\[texts\] folder: there is no folder .*nowhere"),
        ({"consent": "nowhere.md"}, r"\[texts\] consent: .*nowhere\.md can't be read: No such file"),
        ({"consent": "consent.txt"}, "must end in .md"),
        ({"folder": "flat"}, "is not in a language's folder"),
        ({"consent": "large.md"}, "is larger than 200 kB"),
        ({"consent": "latin.md"}, "save it as UTF-8"),
    ],
)
def test_a_missing_or_wrong_text_is_named_and_nothing_is_begun(
    source: Source, texts: dict[str, str], words: str
) -> None:
    (source.root / "flat").mkdir()
    (source.root / "flat" / "start.md").write_text("x", encoding="utf-8")
    (source.root / "large.md").write_bytes(b"x" * (LARGEST_TEXT + 1))
    (source.root / "latin.md").write_bytes("für".encode("latin-1"))
    with pytest.raises(DocumentError, match=words):
        source.build(texts=texts)
    assert not source.study.exists()


def test_how_people_are_received_may_change_after_the_study_is_built(source: Source) -> None:
    before = source.build()
    hashes = before.experiment.hash, before.experiment.hosting_hash
    source.build(
        texts={"language": "de", "folder": "words", "consent": "consent.md"},
        recruitment={"recruiter": "prolific", "contact": "lab@university.example", "payment_usd": 4.0},
        hosting={"quiz": True, "comments": False},
    )
    after = Study.open(source.study)
    assert after.experiment.hash == hashes[0]
    assert after.experiment.hosting_hash != hashes[1]
    assert after.experiment.texts.language == "de"
    assert after.experiment.recruitment.payment_usd == 4.0
    assert after.experiment.hosting.quiz
    assert tomllib.loads((source.study / "experiment.toml").read_text(encoding="utf-8"))["recruitment"]["contact"]


def test_building_again_forgets_nothing_that_was_filled_in_in_the_study(source: Source) -> None:
    source.build(texts={})
    own = source.study / "experiment.toml"
    filled = own.read_text(encoding="utf-8").replace('ethics_approval = ""', 'ethics_approval = "2026-117"')
    own.write_text(filled, encoding="utf-8")
    with pytest.raises(StudyMismatch, match=r"recruitment\.ethics_approval = '2026-117'\. Copy them"):
        source.build(texts={})
    assert own.read_text(encoding="utf-8") == filled
    source.build(texts={}, recruitment={"ethics_approval": "2026-118"})
    assert Study.open(source.study).experiment.recruitment.ethics_approval == "2026-118"


def test_texts_named_in_the_study_s_own_file_are_taken_over_when_it_is_served(source: Source) -> None:
    source.build(texts={})
    own = source.study / "experiment.toml"
    built = own.read_text(encoding="utf-8")
    own.write_text(built.replace('\nconsent = ""', '\nconsent = "mine.md"'), encoding="utf-8")
    with pytest.raises(DocumentError, match=r"\[texts\] consent: .*mine\.md can't be read"):
        Study.open(source.study).take_texts_over()
    (source.study / "mine.md").write_text("# Mine", encoding="utf-8")
    Study.open(source.study).take_texts_over()
    assert source.read("consent.md") == "# Mine"
