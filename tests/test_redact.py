"""What counts as a secret in a text, and what of the text stays readable."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from hypothesis import example, given
from hypothesis import strategies as st

from datahub_eventlog.redact import DEFAULT, Redactor

AWS = "AKIAIOSFODNN7EXAMPLE"
GITHUB = f"ghp_{'a1B2' * 10}"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl-x_y"
AZURE = "Ab9/" * 21 + "Xy=="
CUT = "… [9 more characters are left out]"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nxyz==\n-----END RSA PRIVATE KEY-----"

HIDDEN = [
    # user info of a URI
    ("postgresql://bob:pw@db:5432/shop", "postgresql://bob:***@db:5432/shop"),
    ("a postgresql+x://bob:p%40w@db, and", "a postgresql+x://bob:***@db, and"),
    ("mysql://r:p@w/x#1@h/x?a=b@c", "mysql://r:***@h/x?a=b@c"),
    ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
    ("mongodb://u:p@h1:1,h2:2/db", "mongodb://u:***@h1:1,h2:2/db"),
    ("a://u:p@h,b://v:q@i", "a://u:***@h,b://v:***@i"),
    ("'postgresql://bob:p'w@db/x'", "'postgresql://bob:***@db/x'"),
    ("//bob:pw@host/share", "//bob:***@host/share"),
    ("jdbc:oracle:thin:scott/tiger@//h:1521/s", "jdbc:oracle:thin:scott/***@//h:1521/s"),
    ("bob:pw@tcp(h:3306)/shop", "bob:***@tcp(h:3306)/shop"),
    ("curl -u bob:pw https://h", "curl -u bob:*** https://h"),
    # queries
    ("https://h/x?sig=a%2Fb&se=2020", "https://h/x?sig=***&se=2020"),
    ("s3://b/k?X-Amz-Signature=ab&X-Amz-Date=1", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=1"),
    ("gs://b/k?X-Goog-Signature=ab#f", "gs://b/k?X-Goog-Signature=***"),
    ("https://h/x?api_key=abc&b=1", "https://h/x?api_key=***&b=1"),
    ("https://h/?to=https%3A%2F%2Fi%3Ftoken%3Dabc", "https://h/?to=https%3A%2F%2Fi%3Ftoken%3D***"),
    ("https://h/f?code=abcdefghijklmnopqrst", "https://h/f?code=***"),
    # connection strings
    ("jdbc:sqlserver://h:1433;user=sa;password=p;encrypt=true", "jdbc:sqlserver://h:1433;user=sa;password=***;encrypt=true"),
    ("Driver={X};Uid=sa;Pwd={a;b}}c};Encrypt=yes", "Driver={X};Uid=sa;Pwd=***;Encrypt=yes"),
    ("AccountName=x;AccountKey=ab+/==;Suffix=y", "AccountName=x;AccountKey=***;Suffix=y"),
    ("host=h user=bob password='it''s' dbname=x", "host=h user=bob password='***' dbname=x"),
    ("host=h password=a,b&c dbname=x", "host=h password=*** dbname=x"),
    ("SharedAccessSignature=abc", "SharedAccessSignature=***"),
    # mappings in text
    ('failed: {"password": "a\\"b", "n": 1}', 'failed: {"password": "***", "n": 1}'),
    ("{'password': 'x', 'n': 1}", "{'password': '***', 'n': 1}"),
    ('{\\"token\\": \\"x\\", \\"n\\": 1}', '{\\"token\\": \\"***\\", \\"n\\": 1}'),
    ("db_password: hunter2", "db_password: ***"),
    ("<password>hunter2</password>", "<password>***</password>"),
    ("secrets=['a', 'b'], n=1", "secrets=***, n=1"),
    # commands, SQL, HTTP
    ("psql --password hunter2 --port 5", "psql --password *** --port 5"),
    ("export PGPASSWORD=hunter2; psql", "export PGPASSWORD=***; psql"),
    ("machine h login bob password pw", "machine h login bob password ***"),
    ("machine h login bob password :;&", "machine h login bob password ***"),
    ("CREATE USER x IDENTIFIED BY 'pw'", "CREATE USER x IDENTIFIED BY '***'"),
    ("CREATE ROLE x PASSWORD 'pw' LOGIN", "CREATE ROLE x PASSWORD '***' LOGIN"),
    ("COPY x CREDENTIALS (AWS_SECRET_KEY = 'pw')", "COPY x CREDENTIALS (AWS_SECRET_KEY = '***')"),
    ("Authorization: Basic dXNlcjpw", "Authorization: Basic ***"),
    ("sent with Bearer abc.def.123", "sent with Bearer ***"),
    # shapes
    (f"the key {AWS} is used", "the key *** is used"),
    (f"https://{GITHUB}@github.com/x", "https://***@github.com/x"),
    (f"jwt {JWT}.", "jwt ***"),
    (f"key {AZURE}", "key ***"),
    (f"xoxb-{'1' * 12}-abcdefgh", "***"),
    ("https://hooks.slack.com/services/T0/B0/abc", "https://hooks.slack.com/services/***"),
    (f"before {PEM} after", "before *** after"),
    (f"before {PEM[:40]}", "before ***"),
    (json.dumps({"note": PEM}), '{"note": "***"}'),
    (repr(f"\n{AWS}"), "'\\n***'"),
    # what an attack found
    ("snowflake://bob@corp.com:pw@acct/db", "snowflake://bob@corp.com:***@acct/db"),
    ("u: postgresql:\\/\\/bob:pw@db", "u: postgresql:\\/\\/bob:***@db"),
    ("x=postgresql%3A%2F%2Fbob%3Apw%40db", "x=postgresql%3A%2F%2Fbob%3A***%40db"),
    ("{'Authorization': b'Bearer abc'}", "{'Authorization': b'***'}"),
    ("{'credentials': {'aws': {'v': 'x'}}}", "{'credentials': ***}"),
    ('<add key="password" value="x"/>', '<add key="password" value="***"/>'),
    ("[('Authorization', 'Bearer x')]", "[('Authorization', '***')]"),
    ("ACCESS_KEY_ID 'A' SECRET_ACCESS_KEY 'x'", "ACCESS_KEY_ID '***' SECRET_ACCESS_KEY '***'"),
    ("SET PASSWORD FOR 'b'@'h' = 'x'", "SET PASSWORD FOR 'b'@'h' = '***'"),
    ("DB_PASS=x db_pw: y", "DB_PASS=*** db_pw: ***"),
    ("DB_PASSWORD_PROD=x fernet_key=y", "DB_PASSWORD_PROD=*** fernet_key=***"),
    ("fs.azure.account.key.a.core.windows.net=x", "fs.azure.account.key.a.core.windows.net=***"),
    ("Set-Cookie: session=abc", "Set-Cookie: ***"),
    ("psql --token 'my x'", "psql --token '***'"),
    ("mysql -u root -phush shop", "mysql -u root -p*** shop"),
    ("&quot;password&quot;:&quot;x&quot;", "&quot;password&quot;:***;"),
    ("password=${VAR:-hush}", "password=***}"),
    ("the password is hush3", "the password is ***"),
    # texts that were cut off
    (f"a postgresql://bob:p{CUT}", f"a postgresql://bob:***{CUT}"),
    (f"password='a b{CUT}", "password='***"),
    # tags
    ("urn:li:tag:password:hunter 2", "urn:li:tag:password:***"),
]  # fmt: skip

READABLE = [
    "a description with design, signs, tokens and keys",
    "https://example.com:8080/@scope/page?view=lineage",
    "mail bob@example.com: it's at 10:30@noon",
    "max_tokens: 5, tokens=3, token_count=7, tokenizer: x",
    "password_file: /run/secrets/db, secret_name: shop, token_url=https://h/token",
    "join on a.token = b.token where passwords is null",
    "password: null, secret=true, token: ${TOKEN}, sig={{ env_var('SIG') }}",
    "password={env: DB_PASSWORD}",
    "SELECT password, token FROM users",
    "urn:li:dataset:(urn:li:dataPlatform:s3,bucket/a/b,PROD)",
    "urn:li:tag:secret:true",
    "primary_key: id, foreign key=customer_id, partition_key: 2020-01-01",
    "repo/image:tag@sha256:abcdef",
    "PASSWORD is a column",
    "urn:li:dataset:(urn:li:dataPlatform:dagster,spark_test_orders_daily,PROD)",
    "urn:li:dataset:(urn:li:dataPlatform:s3,lake/returns/token=13/x,PROD)",
    "boroughs_trip_counts_by_pickup_zone npm_downloads_by_package_and_version_daily",
    "SG.MARKETING_ANALYTICS.CUSTOMER_LIFETIME_VALUE sk-learn-pipelines-for-everyone",
    "SELECT data:token::string, token::text FROM x WHERE token = :token",
    "ON d.account_key = e.account_sk AND a.token = b.token_value AND account_key = 0",
    "The column token: identifies the session",
    "arn:aws:secretsmanager:eu-west-1:123:secret:prod/db",
    "run with --no-password --port 5, docker run -u 1000:1000",
    "def f(token: str, sig: float = 0.05)",
]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_a_secret_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert DEFAULT.text(text) == shown


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_a_secret_is_hidden_in_the_middle_of_a_text(text: str, shown: str) -> None:
    assert f"see {shown}\n" in DEFAULT.text(f"see {text}\nthe next line") + "\n"


@pytest.mark.parametrize("text", READABLE)
def test_what_is_no_secret_is_not_touched(text: str) -> None:
    assert DEFAULT.text(text) == text


def test_a_block_of_yaml_is_hidden() -> None:
    text = "db:\n  password: |\n    hush\n    more\n  host: h"
    assert DEFAULT.text(text) == "db:\n  password: |\n    ***\n  host: h"


def test_the_value_of_a_secret_key_is_hidden_whatever_it_is() -> None:
    value = {
        "password": "x",
        "clientSecret": ["x", {"y": 1}],
        "API-Key": 5,
        "env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "A", "value": "x"}],
        "headers": [["Authorization", "Bearer x"], ["Accept", "x"]],
        "db.password": "",
        "token": None,
        "n": 1,
    }
    assert DEFAULT.value(value) == {
        "password": "***",
        "clientSecret": ["***", {"y": "***"}],
        "API-Key": "***",
        "env": [{"name": "DB_PASSWORD", "value": "***"}, {"name": "A", "value": "x"}],
        "headers": [["Authorization", "***"], ["Accept", "x"]],
        "db.password": "",
        "token": None,
        "n": 1,
    }


def test_a_text_that_is_json_is_redacted_by_its_keys() -> None:
    text = json.dumps({"a": {"password": ["x"]}, "b": "postgresql://u:p@h"})
    assert json.loads(DEFAULT.text(text)) == {
        "a": {"password": ["***"]},
        "b": "postgresql://u:***@h",
    }
    assert DEFAULT.text('{"z": 1,\n "password_file": "x"}') == '{"z": 1,\n "password_file": "x"}'


def test_only_the_mappings_of_an_aspect_have_the_users_keys() -> None:
    redactor = Redactor(keys=("owner",))
    aspect = {"owner": "bob", "customProperties": {"owner": "bob", "token": "x"}}
    assert redactor.aspect(aspect) == {
        "owner": "bob",
        "customProperties": {"owner": "***", "token": "***"},
    }
    patch = [{"op": "add", "path": "/customProperties/token", "value": "x"}]
    assert redactor.aspect(patch)[0]["value"] == "***"
    column = {"nativeDataType": "struct<token:varchar(9)>", "description": "token=x"}
    assert redactor.aspect(column) == {**column, "description": "token=***"}


def test_a_urn_is_the_same_in_an_entity_and_in_the_path_of_a_patch() -> None:
    urn = "urn:li:dataset:(urn:li:dataPlatform:file,//nas:share/team@corp/x~y,PROD)"
    path = f"/upstreams/{urn.replace('~', '~0').replace('/', '~1')}"
    shown = DEFAULT.text(urn)
    patch = DEFAULT.aspect([{"op": "add", "path": path, "value": {"dataset": urn}}])
    assert patch[0]["value"]["dataset"] == shown != urn
    assert patch[0]["path"] == f"/upstreams/{shown.replace('~', '~0').replace('/', '~1')}"


def test_keys_that_differ_only_in_what_is_hidden_stay_two() -> None:
    value = {"https://h/?sig=1": "a", "https://h/?sig=2": "b"}
    assert sorted(DEFAULT.value(value).values()) == ["a", "b"]


@pytest.mark.parametrize("name", ["ssn", "SSN", "customer-ssn", "customerSsn"])
def test_a_users_key_is_one_however_it_is_written(name: str) -> None:
    redactor = Redactor(keys=("ssn", "customer_ssn"))
    assert redactor.is_secret_name(name)
    assert redactor.text(f"{name}: 123-45, n=1") == f"{name}: ***, n=1"


def test_a_users_key_may_have_any_letters() -> None:
    redactor = Redactor(keys=("größe",))
    aspect = json.dumps({"customProperties": {"Größe": "1", "n": "größe=2"}})
    assert redactor.may_hold_secret(aspect)
    assert redactor.aspect(json.loads(aspect)) == {
        "customProperties": {"Größe": "***", "n": "größe=***"}
    }


def test_of_a_users_pattern_the_groups_are_hidden_or_all_of_it() -> None:
    redactor = Redactor(patterns=(r"\bC-\d+", r"iban (\w+) of (\w+)"))
    assert redactor.text("C-12 has iban DE12 of bob") == "*** has iban *** of ***"
    assert redactor.value({"x": ["C-12"]}) == {"x": ["***"]}
    assert Redactor(patterns=(r"a(b)?(c)",)).text("ac abc") == "a*** a******"
    assert Redactor(patterns=(r"customer(?= (\w+))",)).text("customer bob") == "customer ***"


def test_a_text_in_which_a_users_pattern_does_not_come_to_an_end_is_hidden() -> None:
    redactor = Redactor(patterns=(r"(a|a)*$",))
    assert redactor.text("a" * 40 + "b") == "***"


DETECTORS = [
    AWSKeyDetector,
    AzureStorageKeyDetector,
    BasicAuthDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    MailchimpDetector,
    OpenAIDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
]


@pytest.mark.parametrize("detector", DETECTORS)
@given(data=st.data())
def test_what_a_detector_of_secrets_finds_is_hidden(
    detector: type[RegexBasedDetector], data: st.DataObject
) -> None:
    """Of whatever its pattern allows."""
    # Its other patterns of AWS only guess.
    pattern = data.draw(
        st.sampled_from(list(detector().denylist)[: 1 if detector is AWSKeyDetector else None])
    )
    secret = data.draw(
        st.from_regex(
            pattern,
            fullmatch=True,
            alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'),
        )
    )
    assert secret not in DEFAULT.text(f"before {secret} after")


def _encoded(content: bytes) -> str:
    """As a part of a JWT (RFC 7515)."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@given(
    algorithm=st.sampled_from(["HS256", "RS512", "ES384"]),
    claims=st.dictionaries(st.text(max_size=9), st.text(max_size=20) | st.integers(), min_size=1),
    signature=st.binary(min_size=32, max_size=256),
)
def test_a_json_web_token_is_hidden(algorithm: str, claims: Any, signature: bytes) -> None:
    parts = (json.dumps(each).encode() for each in ({"alg": algorithm, "typ": "JWT"}, claims))
    token = ".".join(map(_encoded, (*parts, signature)))
    assert list(JwtTokenDetector().analyze_string(f"before {token} after"))
    assert DEFAULT.text(f"before {token} after") == "before *** after"


PIECES = [
    *("password", "://", "u:", "@h", "x,y", "eyJ", "sig", "***", "login x password "),
    *("identified by ", *"=: \n\"'{}&;?\\"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example("login x password :eyJ")
@example("login x password =eyJ")
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = DEFAULT.text(text)
    assert DEFAULT.text(once) == once


@given(st.recursive(st.text(max_size=20), lambda x: st.dictionaries(st.text(max_size=9), x)))
def test_any_value_can_be_redacted(value: Any) -> None:
    DEFAULT.value(value)
    DEFAULT.aspect(value)
