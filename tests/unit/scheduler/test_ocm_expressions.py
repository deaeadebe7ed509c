"""What expressions mean, what they cost, and what of the language is refused."""

import math

import pytest

from fedplane.scheduler.ocm.cel.expressions import COST_MAX, compiled
from fedplane.scheduler.ocm.cel.functions import FUNCTIONS, MEMBERS, REGEX_CHARACTERS_MAX
from fedplane.scheduler.ocm.cel.parsing import DEPTH_MAX, EXPRESSION_CHARACTERS_MAX
from fedplane.scheduler.ocm.cel.values import Failure, Meter
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore

CLUSTER = {
    "metadata": {"name": "a", "labels": {"version": "1.31.2", "zone": "north"}},
    "status": {
        "allocatable": {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "2"},
        "version": {"kubernetes": "v1.30.1"},
        "clusterClaims": [{"name": f"claim{number}", "value": "b"} for number in range(20)],
    },
}
SCORES = {("a", "usage"): AddOnPlacementScore("a", "usage", (("cpu", 3), ("gpu", 80)))}


def value(text, budget=COST_MAX):
    return compiled(text).value(CLUSTER, SCORES, Meter(budget))


@pytest.mark.parametrize(
    "text",
    [
        # what people write
        "managedCluster.metadata.labels['version'].matches('^1\\\\.(30|31)\\\\.\\\\d+$')",
        "managedCluster.metadata.labels.zone in ['north', 'south']",
        "'nvidia.com/gpu' in managedCluster.status.allocatable",
        "quantity(managedCluster.status.allocatable['nvidia.com/gpu']).isGreaterThan(quantity('1'))",
        "quantity(managedCluster.status.allocatable.memory).compareTo(quantity('17179869184')) == 0",
        "semver(managedCluster.status.version.kubernetes, true).isLessThan(semver('1.31.0'))",
        "managedCluster.status.clusterClaims.exists(c, c.name == 'claim3' && c.value == 'b')",
        "managedCluster.scores('usage').filter(s, s.name == 'gpu').all(s, s.value > 70)",
        "!has(managedCluster.metadata.annotations)",
        "'{\"gpus\": [1, 2]}'.parseJSON().gpus[1] == 2",
        # numbers
        "1 == 1.0 && 1 < 1.5 && [1, 1.0] == [1.0, 1] && 1 in [1.0]",
        "-7 / 2 == -3 && -7 % 3 == -1 && 7 / -2 == -3",
        "1.0 / 0.0 > 1e308 && 2.5 * 2.0 == 5.0",
        "0x1F == 31 && -9223372036854775808 < 0",
        "int('12') == 12 && int(-1.9) == -1 && double('1.5') == 1.5 && double(2) == 2.0",
        "[1, 2, 3].sum() == 6 && [3, 1].max() == 3 && ['b', 'a'].min() == 'a'",
        # texts
        "size('añb') == 3 && 'abc'.size() == 3 && size([1, 2]) == 2 && size({'a': 1}) == 1",
        "'\\u00e9\\x41\\101\\n' == 'éAA\\n' && r'\\d' == '\\\\d' && '''it's''' == \"it's\"",
        "'a,b,c'.split(',', 2) == ['a', 'b,c'] && ['a', 'b'].join('-') == 'a-b'",
        "'AbÉ'.lowerAscii() == 'abÉ' && 'ab'.upperAscii() == 'AB' && ' a '.trim() == 'a'",
        "'abcabc'.indexOf('c') == 2 && 'abcabc'.lastIndexOf('c') == 5 && 'abc'.indexOf('d') == -1",
        "'abc'.substring(1) == 'bc' && 'abc'.substring(0, 2) == 'ab' && 'abc'.charAt(3) == ''",
        "'aaa'.replace('a', 'b', 2) == 'bba' && 'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')",
        "string(5) == '5' && string(true) == 'true' && bool('false') == false && 'a' + 'b' == 'ab'",
        # other values
        "true != 1 && '1' != 1 && null == null && null != 0 && {'a': [1]} == {'a': [1.0]} && [1] != [1, 2]",
        "false < true && 'a' < 'b' && !(1 < 1) && 1 <= 1.0 && 2 >= 1",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x) == [2, 3] && [1, 2].exists_one(x, x == 1)",
        "{'a': 1, 'b': 2}.all(key, key < 'c') && [] + [1] == [1] && dyn(1) == 1",
        "isQuantity('1Gi') && !isQuantity('1GiB') && quantity('1500m').add(1).sub(quantity('500m')).asInteger() == 2",
        "quantity('-1').sign() == -1 && quantity('1.5').asApproximateFloat() == 1.5 && !quantity('1.5').isInteger()",
        "semver('1.2.3').minor() == 2 && semver('1.2.3').major() == 1 && semver('v1', true).patch() == 0 && !isSemver('1.2')",
        "semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10')) && semver('1.0.0').isGreaterThan(semver('1.0.0-rc'))",
        "semver('1.0.0-alpha').isLessThan(semver('1.0.0-alpha.1')) && semver('1.0.0+a') == semver('1.0.0+b') && isSemver('v1', true)",
        "(1 < 2 ? 'yes' : 'no') == 'yes' // a remark",
        # one side that decides wins over a failure of another
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(managedCluster.nothing && false)",
        "[1, 0].exists(x, 1 / x == 1) && ![0, 1].all(x, 1 / x > 1)",
    ],
)
def test_an_expression_is_true(text):
    assert value(text) is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("managedCluster.nothing", "there is no nothing"),
        ("[1][1]", "a list of 1 has no element 1"),
        ("'a'['b']", "string has no parts by string"),
        ("'a' < 1", "string and int cannot be compared by order"),
        ("1 + 1.0", "there is no arithmetic of int and double"),
        ("true + true", "there is no arithmetic of bool and bool"),
        ("9223372036854775807 + 1", "the result is no 64-bit integer"),
        ("-(-9223372036854775808)", "the result is no 64-bit integer"),
        ("1 / 0", "division by zero"),
        ("1.0 % 2.0", "there is no remainder of doubles"),
        ("1 ? 2 : 3", "int is neither true nor false"),
        ("true && 'a'", "string is neither true nor false"),
        ("-'a'", "string has no negative"),
        ("1 in 'a'", "string has nothing in it"),
        ("has(managedCluster.metadata.name.first)", "string has no fields"),
        ("[0].exists_one(x, 1 / x == 1)", "division by zero"),
        ("'a'.map(x, x)", "map() of string"),
        ("{'a': 1, 'a': 2}", "the keys of a map are different strings"),
        ("managedCluster.scores('other')", "there is no AddOnPlacementScore other"),
        ("{'metadata': 1}.scores('usage')", "there is no AddOnPlacementScore usage"),
        ("size(1)", "size() does not take int"),
        ("quantity('much')", "'much' is no quantity"),
        ("quantity('1').isLessThan(semver('1.0.0'))", "isLessThan() does not take Quantity, Version"),
        ("semver('1.0.0-01')", "'1.0.0-01' is no semantic version"),
        ("int('1x')", "int() cannot read '1x'"),
        ("double('nan')", "double() cannot read 'nan'"),
        ("bool('maybe')", "bool() cannot read 'maybe'"),
        ("'NaN'.parseJSON()", "parseJSON() cannot read 'NaN'"),
        ("'abc'.substring(2, 1)", "a string of 3 characters has no part from 2 to 1"),
        ("'abc'.charAt(4)", "a string of 3 characters has none at 4"),
        ("['a', 1].join()", "join() takes a list of strings"),
        ("[1, 1.0].sum()", "sum() takes a list of integers or one of doubles"),
        ("[].min()", "min() of an empty list"),
        ("'a'.matches('(')", "'(' is no regular expression for 'a'"),
        ("'\"\\\\ud800\"'.parseJSON().matches('a')", "'a' is no regular expression for '\\ud800'"),
        (f"'a'.matches('{'a' * (REGEX_CHARACTERS_MAX + 1)}')", f"a regular expression may have {REGEX_CHARACTERS_MAX} characters"),
    ],
)
def test_what_has_no_value_fails_and_says_why(text, said):
    with pytest.raises(Failure) as failure:
        value(text)

    assert str(failure.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a value is expected at its end"),
        ("1 +", "a value is expected at its end"),
        ("(1", "')' is expected at its end"),
        ("1 2", "the expression has ended before at '2', character 3"),
        ("a.b", "there is no variable a; there is managedCluster"),
        ("in", "a name is expected at 'in', character 1"),
        ("1 § 2", "'§' at character 3 has no meaning"),
        ("'\\q'", "'\\\\q' in the string at character 1 is no escape"),
        ("'\\ud800'", "'\\\\ud800' in the string at character 1 is no character"),
        ("9223372036854775808", "9223372036854775808 at character 1 is no 64-bit integer"),
        ("1u", "unsigned numbers are not supported at 'u', character 2"),
        ("b'a'", "byte strings are not supported, and there is one at character 1"),
        ("managedCluster.?status", "optional fields (.?) are not supported; guard with has() at '?', character 16"),
        ("managedCluster[?'a']", "optional keys ([?) are not supported; guard with in at '?', character 16"),
        ("has(managedCluster)", "has() takes a field, as in has(managedCluster.metadata)"),
        ("[1].all(1, true)", "all() takes a variable's name and an expression with it"),
        ("[1].filter(x, true, x > 0)", "filter() takes a variable's name and an expression with it"),
        (
            "timestamp('2026-01-01T00:00:00Z')",
            "timestamp() is not supported; "
            "supported are bool, double, dyn, int, isQuantity, isSemver, matches, quantity, semver, size, string",
        ),
        ("1" + " + 1" * DEPTH_MAX, f"expressions may be nested {DEPTH_MAX} deep at its end"),
        ("(" * DEPTH_MAX + "1" + ")" * DEPTH_MAX, f"expressions may be nested {DEPTH_MAX} deep at '1', character {DEPTH_MAX + 1}"),
        ("!" * DEPTH_MAX + "true", f"expressions may be nested {DEPTH_MAX} deep at its end"),
        ("'" + "a" * EXPRESSION_CHARACTERS_MAX + "'", f"an expression may have {EXPRESSION_CHARACTERS_MAX} characters, and one has 4002"),
    ],
)
def test_a_text_that_is_no_expression_is_refused_where_it_goes_wrong(text, said):
    with pytest.raises(ValueError) as error:
        compiled(text)

    assert str(error.value) == said


HUNDRED = f"[{', '.join('1' * 100)}]"


@pytest.mark.parametrize(
    "text",
    [
        f"{HUNDRED}.all(a, {HUNDRED}.all(b, {HUNDRED}.all(c, a == b)))",
        "['aaaaaaaaaa']" + ".map(x, x + x)" * 30 + "[0].size() > 0",
        f"'{'a' * 1000}'.replace('a', '{'b' * 1000}').size() > 0",
        f"[1]{'.map(x, [x, x, x, x])' * 20} == [1]{'.map(x, [x, x, x, x])' * 20}",
        f"{HUNDRED}.all(a, '{'a' * 1000}'.matches('{'(a+)+' * 20}$'))",
    ],
)
def test_what_an_expression_costs_has_a_bound(text):
    with pytest.raises(Failure) as failure:
        value(text)

    assert str(failure.value) == f"this costs more than {COST_MAX} steps; make it shorter"


def test_who_has_run_out_of_budget_is_not_saved_by_another_side():
    with pytest.raises(Failure, match="this costs more than 50 steps"):
        value(f"{HUNDRED}.all(a, a > 0) || true", budget=50)


def test_a_text_that_grows_is_paid_for_by_its_length():
    with pytest.raises(Failure, match="this costs more than 500 steps"):
        value(f"'{'a' * 100}'.replace('a', '{'x' * 100}')", budget=500)


def test_what_is_not_computed_costs_nothing():
    assert value(f"true || {HUNDRED}.all(a, {HUNDRED}.all(b, {HUNDRED}.all(c, a == b)))", budget=10) is True


def test_nothing_saves_an_expression_that_has_run_out_of_budget():
    with pytest.raises(Failure):
        value(f"{HUNDRED}.all(a, a == 1) || true", budget=20)


def test_a_double_that_is_no_number_is_equal_to_nothing_and_in_no_order():
    assert [value(f"0.0 / 0.0 {sign} 1.0") for sign in ("==", "<", ">", "<=", "!=")] == [False, False, False, False, True]
    assert math.isnan(value("0.0 / 0.0"))


def test_the_functions_that_are_supported_are_these():
    functions = "bool double dyn int isQuantity isSemver matches quantity semver size string"
    members = (
        "add asApproximateFloat asInteger charAt compareTo contains endsWith indexOf isGreaterThan isInteger isLessThan join lastIndexOf "
        "lowerAscii major matches max min minor parseJSON patch replace sign size split startsWith sub substring sum trim upperAscii"
    )

    assert [sorted(FUNCTIONS), sorted(MEMBERS)] == [functions.split(), members.split()]
