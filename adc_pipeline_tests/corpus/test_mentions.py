"""Mentions of users in texts."""

import duckdb
import pytest

from adc_pipeline.corpus.privacy.mentions import create_mention_macros


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("u/Bob", "u/user2"),
        ("/u/bob, hello", "/u/user2, hello"),
        ("ask @bob.", "ask @user2."),
        ("@bob @ann @bob", "@user2 @someone @user2"),
        ("u/bobby is not u/bob", "u/someone is not u/user2"),
        ("https://www.reddit.com/user/Bob/comments", "https://www.reddit.com/user/user2/comments"),
        ("(u/some-name_2)", "(u/someone)"),
        ("@Björk!", "@someone!"),
        ("bob@example.com", "bob@example.com"),
        ("menu/soup, you/me, r/bob, 5 @ 3", "menu/soup, you/me, r/bob, 5 @ 3"),
        ("a\x01b @bob", "ab @user2"),
        ("bob", "bob"),
        ("", ""),
        (None, None),
    ],
)
def test_mentions_are_replaced_and_other_text_stays(text: str | None, replaced: str | None) -> None:
    with duckdb.connect() as connection:
        create_mention_macros(connection)
        query = "SELECT with_mentions($text::VARCHAR, MAP {'bob': 'user2'}, $otherwise::VARCHAR)"
        assert connection.execute(query, {"text": text, "otherwise": "someone"}).fetchall() == [(replaced,)]
        kept = replaced.replace("user2", "[removed]") if replaced else replaced
        removed = "SELECT with_mentions($text::VARCHAR, MAP {'bob': '[removed]'}, NULL)"
        ((found,),) = connection.execute(removed, {"text": text}).fetchall()
        if text and "someone" not in (replaced or ""):
            assert found == kept
