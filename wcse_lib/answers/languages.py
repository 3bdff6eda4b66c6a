"""How languages speak of answers, and the digits and signs of all scripts: another language is another row here."""

from __future__ import annotations

import re
from typing import NamedTuple

MONTHS = (
    r"(?:Jan|Febr)(?:uary|\.)|March|April|May|June?|July?|Aug(?:ust|\.)?"
    r"|(?:Sept?|Octo?|Nov|Dec)(?:(?:em)?ber|\.)?"
)

# Where a model gives up.
REFUSALS = (
    r"\b(?:I|we)(?:['’]m| am| are| was| were)? (?:(?:can ?not|can[’']t|could ?n[o'’]t|(?:un|not )able to)"
    r" (?:\w+ )?(?:solve|answer|determine|find|help|provide|compute|calculate|complete|assist|figure|give|do)"
    r"|(?:do|did)(?: not|n['’]t) know)"
    r"|(?:can ?not|impossible to) (?:be )?(?:determined?|solved?|answer(?:ed)?|tell|told|known?|say)\b"
    r"|\bsorry\b|not enough information|\b(?:is|are) (?:undefined|not defined|impossible)\b"
    r"|\bdo(?:es)? not exist\b|\bno (?:real |integer |such )?(?:solution|value)s?\b"
    r"|\bkann (?:ich )?(?:\w+ )?nicht (?:lösen|beantworten|bestimmen)"
    r"|\bno puedo (?:resolver|responder)|\bno s[eé]\b|\bne (?:peux|sais) pas\b|не могу (?:решить|ответить)|не знаю"
    r"|\bsiwezi (?:kutatua|kujibu)|\bsijui\b|(?:我|本题)(?:无法|不能|無法|不知道)"
    r"|(?:解け|お?答え|計算|回答)[^。]{0,6}(?:ません|ない)|[わ分]かりません"
    r"|ไม่สามารถ(?:แก้|ตอบ|หา)|ไม่ทราบ|(?:풀|답|대답|계산)[^.]{0,6}수 없|모르겠"
    r"|সমাধান করতে পারছি না|জানি না|తెలియదు"
)


NEVER = "(?!)"


class Language(NamedTuple):
    """How a language speaks of an answer, in regular expressions.

    `answer` is the answer's name and `gives` what may stand between the name and the answer (a colon, "=" and the end
    of a line always may). `reversed` follows an answer that stands first ("12 is the answer"). A number after `before`
    or in front of `after` counts something else ("in 3 days"). `no` stands before what is not the answer, `denied`
    after it.
    """

    answer: str
    gives: str
    reversed: str = NEVER
    before: str = NEVER
    after: str = NEVER
    no: str = NEVER
    denied: str = NEVER


_TO = r"(?:\s(?:to|for|of)\s(?:\w+\s){0,3}(?:question|problem|exercise|part|task|puzzle)\b[^\n:=.?]{0,30}?)?"
LANGUAGES = {
    "English": Language(
        r"(?<!other )(?<!wrong )(?<!possible )(?<!incorrect )\banswers?\b" + _TO + r"|\bans\b\.?"
        r"|\b(?:correct|best|right|my) (?:option|choice)s?\b",
        r"(?:,? (?:then|thus|therefore|hence),?)?\s?(?:\bis\b|\bare\b|\b(?:would|should|must|will) be\b"
        r"|\bequals\b|\bcomes (?:out )?to\b|[’']s\b)",
        r"(?:is|are|must be|would be)(?: (?:therefore|thus|then|indeed|clearly))? (?:the|our|my) "
        r"(?:(?:correct|right|final|best|only) ){0,2}(?:answer|choice|option)\b",
        r"\b(?:when|where|if|for|at|with) \$?[A-Za-z]\s?="
        r"|\b(?:in|within|after|per|during|every|over|throughout)(?: (?:the|only|just|about|all|a|total"
        r"|first|last|next|of)){0,3}",
        NEVER,
        r"not\b|isn't|isn’t|never\b|neither\b|nor\b|\b(?:table|figure|step|chapter|section|equation|example)",
    ),
    "Chinese": Language(
        r"(?:答案|正确选项|正確選項|最终结果|最後結果)|(?<![回解问應应])答(?=\s?[:是为為])|[选選][择擇]?(?=\s?\(?[A-J])",
        r"(?:应该?|應該?|就|即|分别|分別)?(?:是|为|為|等于|等於|选择?|選擇?|如下)?",
        r"(?:就|才)?是(?:最终|最終|正确|正確)?(?:的)?(?:答案|选项|選項)",
        r"(?:用|花|花了|经过|每|在|第|共用)",
        r"[^\d\s，。,.]{0,4}(?:内|內|里|裡|之后|后|後|以后|中)(?![个個])",
        r"不是|不为|不為|并非|並非|不等于|而非|而不是",
    ),
    "Japanese": Language(
        r"答え|解答|正解|回答|(?<![問解回])答(?=[はが:])",
        r"(?:として)?(?:は|が|も)?,?",
        r"(?:が|は)(?:この問題の|正しい|最終的な)?(?:答え|正解|解答)(?:です|だ|で|となり|になり)",
        r"(?:毎|第)",
        r"\s?[^\d\s、。,.]{0,5}?(?:間|以内|後|前|時)?(?:で(?!す|し|あ|は)|に(?!な)|ごと|あたり|かけて|のうち)",
        NEVER,
        r"では?(?:な|あ)|じゃ(?:な|あ)|でな",
    ),
    "Korean": Language(
        r"(?<![가-힣])(?:정답|해답|답변|답안|답)",
        r"(?:은|는|이|가|으로는)?",
        r"\S{0,3}(?:이|가|은|는)\s?(?:최종\s?|올바른\s?)?(?:정답|답|해답)(?:이다|입니다|이에요|임)?",
        r"(?:매|총\s?기간)\s?",
        r"\s?[^\d\s,.]{0,3}\s?(?:동안|만에|마다|후에?|이내|안에|당|에(?!서))",
        NEVER,
        r"(?:이|가)?\s?(?:아니|아닙|아님)|말고",
    ),
    "Thai": Language(
        r"คำตอบ(?:สุดท้าย|ที่ถูกต้อง|ที่ถูก)?|(?<!คำ)ตอบ(?=\s?[:\d])|ข้อที่ถูก(?:ต้อง)?",
        r"(?:ของ[^\n:=\d]{1,30}?)?(?:ก็)?(?:คือ|เป็น|เท่ากับ|ได้แก่)?(?:\s?ข้อ)?",
        r"(?:คือ|เป็น)(?:คำตอบ|ข้อที่ถูก)",
        r"(?:ใน|ภายใน|ทุก|ต่อ|หลัง|เป็นเวลา|ใช้เวลา)(?:เวลา)?",
        NEVER,
        r"ไม่ใช่|มิใช่",
    ),
    "German": Language(
        r"\b(?:Antwort|Lösung|Endergebnis|Ergebnis)\b(?: (?:auf|zu|der|dieser) (?:\w+ ){0,2}(?:Frage|Aufgabe))?",
        r"(?:ist|lautet|beträgt|wäre|sind)\b(?: (?:also|daher|somit|demnach|folglich))?",
        r"ist (?:also )?(?:die|das) (?:(?:richtige|korrekte|endgültige)n? )?(?:Antwort|Lösung|Ergebnis)\b",
        r"\b(?:in|innerhalb|nach|pro|während|bei|binnen|von je)(?: (?:von|nur|den|der|jeweils)){0,2}",
        NEVER,
        r"nicht\b|kein\w*\b",
    ),
    "Spanish, Portuguese and Italian": Language(
        r"\b(?:respuesta|resposta|risposta|soluci[oó]n|solu[cç][aã]o)\b(?: (?:final|finale|correc?t[ao]|corretta))?"
        r"(?: (?:a|de|al|à|alla|da) (?:\w+ ){0,2}(?:pregunta|problema|quest[aã]o|pergunta|domanda))?",
        r"(?:(?:es|sería|son|debe ser|é|será|seria|são|è|sono|sarebbe)(?!\w))"
        r"(?:,? (?:por (?:lo )?tanto|entonces|pues|portanto|então|quindi|dunque))?,?",
        r"(?:es|é|è) (?:la|a) (?:(?:respuesta|resposta|risposta|opción|opção)\b)",
        r"\b(?:en|em|in|durante|después de|depois de|dopo|cada|por|per|tras|ogni|após)"
        r"(?: (?:solo|los|las|os|as|i|le|un|total|de)){0,2}",
        NEVER,
        r"n[oã]o?\b|non\b",
    ),
    "French": Language(
        r"\br[ée]ponse\b(?: (?:finale|correcte|exacte|juste))?(?: [àa] (?:\w+ ){0,2}(?:question|problème))?",
        r"(?:est|serait|sont|vaut)\b(?: (?:donc|alors|ainsi))?,?",
        r"est (?:donc )?(?:la (?:bonne |seule )?réponse|le bon choix)\b",
        r"\b(?:en|dans|pendant|après|par|sur|chaque|durant|au bout de|pour)"
        r"(?: (?:les|la|le|un|total|de|seulement)){0,2}",
        NEVER,
        r"n[’']est pas|pas\b|non\b",
    ),
    "Russian and Ukrainian": Language(
        r"(?<!\w)(?:ответ|відповідь)(?:ом)?(?!\w)(?: (?:на|к|до) (?:\w+ ){0,2}(?:вопрос|задач\w|задаче|питання))?",
        r"(?:\s[-–—](?=\s)|[–—]|(?:равен|равно|это|будет|есть|составляет|является|дорівнює|це)(?!\w))",
        r"(?:[-–—]|это|является) (?:это )?(?:(?:правильн|верн|окончательн)ы[йм] )?(?:ответ(?:ом)?|вариант)(?!\w)",
        r"(?<!\w)(?:за|в|во|через|по|на|после|каждые|протягом|впродовж)(?: (?:первые|всего|эти)){0,1}",
        NEVER,
        r"не\b|а не\b",
    ),
    "Swahili": Language(
        r"\bjibu(?: (?:la mwisho|sahihi|letu|langu|la swali)){0,2}\b",
        r"(?:ni|litakuwa|linakuwa|itakuwa)\b",
        r"ndi(?:lo|yo) jibu\b|ni jibu\b",
        r"\b(?:kwa|katika|ndani ya|baada ya|kila|muda wa)"
        r"(?: (?:siku|saa|wiki|miezi|miaka|dakika|watu|kila|muda|wa)){0,2}",
        NEVER,
        r"si\b|sio\b|siyo\b",
    ),
    "Bengali": Language(
        r"উত্তর(?:টি|টা)?|সমাধান",
        r"(?:হল|হলো|হয়|হচ্ছে|হবে|টি|টা|-)?",
        r"(?:-ই|ই)?\s?(?:হল|হলো|হচ্ছে)?\s?(?:সঠিক|চূড়ান্ত)\s?উত্তর",
        r"(?:প্রতি|প্রত্যেক)",
        r"\s?(?:টি|টা|জন)?\s?\S{0,9}?(?:\S{1,9}ে(?=\s)|ঘন্টায়|ঘণ্টায়|সপ্তাহে|মাসে|বছরে|মিনিটে|মধ্যে|জন্য|পরে|পর|ধরে)",
        NEVER,
        r"নয়|না(?!\w)|নহে",
    ),
    "Telugu": Language(
        r"సమాధానం|సమాధానము|జవాబు",
        r"(?:అనేది|ఏమిటంటే|అంటే|=)?",
        r"(?:అనేది|ఏ)?\s?(?:సరైన|తుది)\s?(?:సమాధానం|జవాబు)",
        r"(?:ప్రతి)",
        r"\s?\S{0,9}?(?:లో|లలో|ల్లో|పాటు|తర్వాత|తరువాత|కోసం|కొరకు|కు(?=\s))",
        NEVER,
        r"కాదు",
    ),
    "Hindi and Marathi": Language(
        r"उत्तर|जवाब|हल(?=\s?[:=])",
        r"(?:होगा|है,|हे)?",
        r"(?:ही)?\s?(?:सही|अंतिम)\s?(?:उत्तर|जवाब)",
        r"(?:प्रति|हर)",
        r"\s?\S{0,12}?\s?(?:में|के लिए|के बाद|तक|दिनांत|मध्ये|साठी)",
        NEVER,
        r"नहीं|नाही",
    ),
    "Arabic, Persian and Urdu": Language(
        r"(?:ال)?(?:إجابة|اجابة|جواب|پاسخ)(?: (?:النهائية|الصحيحة|النهائي|الصحيح|نهایی|صحیح))?",
        r"(?:هو|هي|هى|برابر(?: با)?|ہے)?",
        r"(?:هو|هي) (?:الجواب|الإجابة)",
        r"(?:في|خلال|بعد|كل|لكل|لمدة|در|طی|هر|میں)(?: (?:غضون|مدة)){0,1}",
        NEVER,
        r"ليس(?:ت)?",
        r"نیست|نہیں",
    ),
    "Turkish": Language(
        r"\b(?:cevap|cevabı|yanıt|yanıtı|sonuç)\b",
        "",
        r"(?:doğru )?(?:cevap|yanıt)(?:tır|dır)\b",
        r"\b(?:her|toplam)",
        r"\s\w{0,8}?(?:[dt][ea]|içinde|için|sonra|boyunca)\b",
        NEVER,
        r"değil",
    ),
    "Vietnamese, Indonesian": Language(
        r"(?:đáp án|câu trả lời|đáp số|trả lời|\bjawaban(?:nya)?\b)(?: (?:cuối cùng|đúng|akhir|yang benar|akhirnya))?",
        r"(?:sẽ )?(?:là|adalah|ialah|yaitu)(?!\w)",
        r"(?:là|adalah) (?:đáp án|câu trả lời|jawaban)",
        r"(?:trong|mỗi|sau|dalam|per|setiap|selama|setelah)(?: (?:vòng|waktu)){0,1}",
        NEVER,
        r"không|bukan",
    ),
    "Dutch and Nordic": Language(
        r"\b(?:antwoord|svaret|svar|vastaus)\b(?: op (?:de|deze) vraag)?",
        r"(?:is|luidt|är|er|on|blir)\b(?: (?:dus|daarom|alltså|altså))?",
        r"(?:is|är|er) (?:het|det) (?:(?:juiste|rätta|riktige) )?(?:antwoord|svaret)\b",
        r"\b(?:in|binnen|na|per|tijdens|på|efter|i løpet av|etter)(?: (?:de|het|den)){0,1}",
        NEVER,
        r"niet\b|inte\b|ikke\b",
    ),
    "Polish, Czech, Romanian, Hungarian, Greek": Language(
        r"(?<!\w)(?:odpowied[źz]|odpověď|odpoveď|răspunsul?|válasz|απάντηση)(?!\w)"
        r"(?: (?:końcowa|poprawna|final|corect|helyes))?",
        r"(?:to|brzmi|je|zní|este|e|είναι)(?!\w)",
        NEVER,
        r"(?<!\w)(?:w|w ciągu|po|za|în|după|σε|μετά από|během|v)",
        NEVER,
        r"nie\b|není|nu\b|nem\b|δεν",
    ),
    "Tamil, Kannada, Malayalam, Gujarati, Punjabi": Language(
        r"பதில்|விடை|ಉತ್ತರ|ഉത്തരം|જવાબ|ਜਵਾਬ|ਉੱਤਰ", r"(?:ಎಂದರೆ|છે)?", denied=r"அல்ல|ಅಲ್ಲ|അല്ല|નથી|ਨਹੀਂ"
    ),
}
ENGLISH = "English"
# Those written in Latin letters; of others a sign of their script says which language it may be.
LATIN = [name for name, one in LANGUAGES.items() if re.search("[a-z]{5}", one.answer)]
# A number after the first or in front of the second of these is a bound or a range, and no answer by itself.
BOUNDS = {
    "English": (
        r"\b(?:at (?:least|most)|(?:less|more|greater|fewer|larger|smaller|other) than(?: or equal to)?"
        r"|up to|over|under|above|below|from \S+ to|between \S+ and|except|multiple of|divisible by"
        r"|exceed(?:s|ing)?|minimum of|maximum of|in the form(?: of)?)",
        NEVER,
    ),
    "Chinese": (
        r"(?:不超过|不超過|不少于|不少於|至少|至多|最多|最少|[大小多少]于|[大小多少]於|超过|超過|不足)",
        r"[^\d\s,。]{0,3}\s?(?:以上|以下|以内|之间|之間)|\s?[到至~-]\s?\d",
    ),
    "Japanese": (
        r"(?:少なくとも|最大|最低|最小)",
        r"[^\d\s,。]{0,3}(?:以上|以下|未満|より|を超)|\s?(?:から|~)\s?\d",
    ),
    "Korean": (
        r"(?:최소|최대|적어도)",
        r"[^\d\s,.]{0,2}\s?(?:이상|이하|미만|초과|보다)|\s?(?:에서|~)\s?\d",
    ),
    "Thai": (r"(?:มากกว่า|น้อยกว่า|อย่างน้อย|ไม่เกิน|เกิน|ระหว่าง)", NEVER),
    "German": (
        r"\b(?:mindestens|höchstens|maximal|minimal|(?:mehr|weniger|größer|kleiner) als|bis zu|über|unter"
        r"|zwischen \S+ und)",
        NEVER,
    ),
    "Spanish, Portuguese and Italian": (
        r"\b(?:(?:ma[yi]or(?:es)?|menor(?:es)?|m[áa]i?s|menos|più|meno|superior|inferior|maggiore|minore) "
        r"(?:que|de|di|a|do que|ou igual a)|al menos|por lo menos|pelo menos|almeno|a lo sumo|como máximo|no máximo"
        r"|al massimo|hasta|até|fino a|entre \S+ [ye])",
        NEVER,
    ),
    "French": (
        r"\b(?:au (?:moins|plus)|(?:plus|moins) (?:de|que)|plus (?:grand|petit)e? que|jusqu['’]à|entre \S+ et"
        r"|(?:sup|inf)érieure? (?:ou égale? )?à)",
        NEVER,
    ),
    "Russian and Ukrainian": (
        r"(?<!\w)(?:не (?:менее|более|меньше|больше)|больше|меньше|более|менее|свыше|до|от|между|минимум|максимум)",
        NEVER,
    ),
    "Swahili": (r"\b(?:zaidi ya|angalau|chini ya|kati ya|hadi|isiyozidi)", NEVER),
    "Bengali": (r"(?:অন্তত|কমপক্ষে|সর্বোচ্চ)", r"\s?\S{0,6}\s?(?:বেশি|কম|চেয়ে)"),
    "Telugu": (r"(?:కనీసం|గరిష్టంగా)", r"\s?\S{0,6}\s?(?:కంటే|కన్నా|మించి)"),
    "Hindi and Marathi": (
        r"(?:कम से कम|अधिकतम|न्यूनतम)",
        r"\s?\S{0,8}\s?से (?:अधिक|कम|ज़्यादा|ज्यादा|बड़|छोट)|\s?पेक्षा",
    ),
    "Arabic, Persian and Urdu": (
        r"(?:(?:أكبر|أقل|أكثر|أصغر) من|على الأقل|بين|لا (?:يقل|يزيد) عن|(?:بیشتر|کمتر) از|حداقل|حداکثر)",
        NEVER,
    ),
    "Turkish": (r"\ben (?:az|fazla|çok)", r"\S{0,4}\s(?:fazla|az|büyük|küçük|çok)"),
    "Vietnamese, Indonesian": (
        r"(?:ít nhất|nhiều nhất|(?:lớn|nhỏ|nhiều|ít) hơn|(?:lebih|kurang) dari|paling (?:sedikit|banyak)|minimal)",
        NEVER,
    ),
    "Dutch and Nordic": (
        r"\b(?:minstens|hoogstens|(?:meer|minder) dan|minst|högst|(?:mer|mindre) än|høyst)",
        NEVER,
    ),
    "Polish, Czech, Romanian, Hungarian, Greek": (
        r"(?<!\w)(?:co najmniej|(?:więcej|mniej) niż|alespoň|nejvýše|legalább|cel puțin|τουλάχιστον)",
        NEVER,
    ),
}

# Numerals that stand for a power of ten after digits: "3万" is 30000.
NUMERALS = {
    10**2: "百 백 শত వంద सौ",
    10**3: "千 仟 천 พัน тыс. тыс тысяч тысячи tausend mil হাজার వేల వేలు हज़ार हजार",
    10**4: "万 萬 만 หมื่น",
    10**5: "แสน লাখ লক্ষ లక్ష లక్షలు లక్షల लाख",
    10**6: "ล้าน млн миллион миллиона миллионов Millionen Million millones millón milhões",
    10**7: "কোটি కోటి కోట్లు करोड़",
    10**8: "亿 億 억",
    10**9: "млрд миллиард миллиарда миллиардов Milliarden Milliarde milliards milliard",
    10**12: "兆 조",
}
SCALE_OF_NUMERAL = {numeral: scale for scale, row in NUMERALS.items() for numeral in row.split()}

# The zero of every script whose digits stand in order after it.
ZEROS = {
    "Arabic": "٠",
    "Persian": "۰",
    "Devanagari": "०",
    "Bengali": "০",
    "Gurmukhi": "੦",
    "Gujarati": "૦",
    "Odia": "୦",
    "Tamil": "௦",
    "Telugu": "౦",
    "Kannada": "೦",
    "Malayalam": "൦",
    "Thai": "๐",
    "Lao": "໐",
    "Tibetan": "༠",
    "Burmese": "၀",
    "Khmer": "០",
    "full width": "０",
}
_PUNCTUATION = {  # of full width, and of scripts with signs of their own
    ".": "．٫",
    ",": "，、٬،",
    ":": "：",
    ";": "；؛",
    "!": "！",
    "?": "？؟",
    "(": "（﹙",
    ")": "）﹚",
    "[": "［",
    "]": "］",
    "{": "｛",
    "}": "｝",
    "=": "＝",
    "+": "＋",
    "-": "－",
    "*": "＊",
    "/": "／",
    "<": "＜",
    ">": "＞",
    "%": "％٪",
    "$": "＄",
    " ": "\u3000\u00a0\u202f\u2009",
}


def _plain_signs() -> dict[int, str]:
    """str.translate's table from the digits and signs of all scripts to those of ASCII."""
    plain = {}
    for zero in ZEROS.values():
        plain |= {ord(zero) + digit: str(digit) for digit in range(10)}
    for sign, spellings in _PUNCTUATION.items():
        plain |= {ord(spelling): sign for spelling in spellings}
    plain |= {ord("Ａ") + place: chr(ord("A") + place) for place in range(26)}
    return plain


PLAIN_SIGNS = _plain_signs()

# What may stand between the phrase and the answer itself.
LEADS = (
    r"(?:(?:for sure|therefore|thus|hence|then|simply|just|clearly|obviously|indeed|definitely|certainly|probably"
    r"|likely|actually|exactly|about|approximately|approx\.?|roughly|around|nearly|equal to|given by|a total of"
    r"|also|donc|entonces|portanto|daher|also|somit|etwa|environ|aproximadamente|ungefähr|约|約|大约|およそ|约为|примерно)"
    r",?\s*)+(?=[-+$(\[\\*\d√πA-J])"
)
OPTION = (
    r"(?:(?:the|la|le|el|die|der|a|o|l['’])?\s?(?:option|choice|letter|statement|opci[oó]n|opção|opzione|lettre|letra"
    r"|lettera|buchstabe|вариант|буква|pilihan|seçenek|选项|選項|選択肢|ข้อ|보기"
    r"|विकल्प)|the number|la|le)\s*(?=[(*]*[A-J]\b)"
)
# What may follow the answer where the verb comes last.
VERB_ENDINGS = r"\s*(?:です|である|だ|となります|になります|입니다|이다|이에요|예요|है|हैं|হবে|ہے|است|d[ıi]r|t[ıi]r)$"
