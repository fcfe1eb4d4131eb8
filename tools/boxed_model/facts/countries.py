"""Countries and capitals in English, Korean and Japanese.

Where a country has several capitals, or the capital is disputed, one commonly used seat is listed;
the table is training text for a toy, not a statement on status. No code besides the parser.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Country:
    """One country: names per language (the first is the usual one) and its capital."""

    en: tuple[str, ...]
    ko: tuple[str, ...]
    ja: tuple[str, ...]
    capital_en: str
    capital_ko: str
    capital_ja: str


# english names|capital|korean names|capital|japanese names|capital
_TABLE = """
Afghanistan|Kabul|아프가니스탄|카불|アフガニスタン|カブール
Albania|Tirana|알바니아|티라나|アルバニア|ティラナ
Algeria|Algiers|알제리|알제|アルジェリア|アルジェ
Andorra|Andorra la Vella|안도라|안도라라벨랴|アンドラ|アンドラ・ラ・ベリャ
Angola|Luanda|앙골라|루안다|アンゴラ|ルアンダ
Antigua and Barbuda|Saint John's|앤티가 바부다|세인트존스|アンティグア・バーブーダ|セントジョンズ
Argentina|Buenos Aires|아르헨티나|부에노스아이레스|アルゼンチン|ブエノスアイレス
Armenia|Yerevan|아르메니아|예레반|アルメニア|エレバン
Australia|Canberra|호주,오스트레일리아|캔버라|オーストラリア|キャンベラ
Austria|Vienna|오스트리아|빈|オーストリア|ウィーン
Azerbaijan|Baku|아제르바이잔|바쿠|アゼルバイジャン|バクー
the Bahamas,Bahamas|Nassau|바하마|나소|バハマ|ナッソー
Bahrain|Manama|바레인|마나마|バーレーン|マナーマ
Bangladesh|Dhaka|방글라데시|다카|バングラデシュ|ダッカ
Barbados|Bridgetown|바베이도스|브리지타운|バルバドス|ブリッジタウン
Belarus|Minsk|벨라루스|민스크|ベラルーシ|ミンスク
Belgium|Brussels|벨기에|브뤼셀|ベルギー|ブリュッセル
Belize|Belmopan|벨리즈|벨모판|ベリーズ|ベルモパン
Benin|Porto-Novo|베냉|포르토노보|ベナン|ポルトノボ
Bhutan|Thimphu|부탄|팀푸|ブータン|ティンプー
Bolivia|Sucre|볼리비아|수크레|ボリビア|スクレ
Bosnia and Herzegovina,Bosnia|Sarajevo|보스니아 헤르체고비나,보스니아|사라예보|ボスニア・ヘルツェゴビナ,ボスニア|サラエボ
Botswana|Gaborone|보츠와나|가보로네|ボツワナ|ハボローネ
Brazil|Brasília|브라질|브라질리아|ブラジル|ブラジリア
Brunei|Bandar Seri Begawan|브루나이|반다르스리브가완|ブルネイ|バンダルスリブガワン
Bulgaria|Sofia|불가리아|소피아|ブルガリア|ソフィア
Burkina Faso|Ouagadougou|부르키나파소|와가두구|ブルキナファソ|ワガドゥグー
Burundi|Gitega|부룬디|기테가|ブルンジ|ギテガ
Cambodia|Phnom Penh|캄보디아|프놈펜|カンボジア|プノンペン
Cameroon|Yaoundé|카메룬|야운데|カメルーン|ヤウンデ
Canada|Ottawa|캐나다|오타와|カナダ|オタワ
Cape Verde,Cabo Verde|Praia|카보베르데|프라이아|カーボベルデ|プライア
the Central African Republic,Central African Republic|Bangui|중앙아프리카 공화국|방기|中央アフリカ共和国,中央アフリカ|バンギ
Chad|N'Djamena|차드|은자메나|チャド|ンジャメナ
Chile|Santiago|칠레|산티아고|チリ|サンティアゴ
China|Beijing|중국|베이징|中国|北京
Colombia|Bogotá|콜롬비아|보고타|コロンビア|ボゴタ
the Comoros,Comoros|Moroni|코모로|모로니|コモロ|モロニ
the Democratic Republic of the Congo,DR Congo|Kinshasa|콩고 민주 공화국|킨샤사|コンゴ民主共和国|キンシャサ
the Republic of the Congo,Republic of the Congo|Brazzaville|콩고 공화국|브라자빌|コンゴ共和国|ブラザビル
Costa Rica|San José|코스타리카|산호세|コスタリカ|サンホセ
Croatia|Zagreb|크로아티아|자그레브|クロアチア|ザグレブ
Cuba|Havana|쿠바|아바나|キューバ|ハバナ
Cyprus|Nicosia|키프로스|니코시아|キプロス|ニコシア
the Czech Republic,Czechia|Prague|체코|프라하|チェコ|プラハ
Denmark|Copenhagen|덴마크|코펜하겐|デンマーク|コペンハーゲン
Djibouti|Djibouti City|지부티|지부티시|ジブチ|ジブチ市
Dominica|Roseau|도미니카 연방|로조|ドミニカ国|ロゾー
the Dominican Republic,Dominican Republic|Santo Domingo|도미니카 공화국|산토도밍고|ドミニカ共和国|サントドミンゴ
East Timor,Timor-Leste|Dili|동티모르|딜리|東ティモール|ディリ
Ecuador|Quito|에콰도르|키토|エクアドル|キト
Egypt|Cairo|이집트|카이로|エジプト|カイロ
El Salvador|San Salvador|엘살바도르|산살바도르|エルサルバドル|サンサルバドル
Equatorial Guinea|Malabo|적도 기니|말라보|赤道ギニア|マラボ
Eritrea|Asmara|에리트레아|아스마라|エリトリア|アスマラ
Estonia|Tallinn|에스토니아|탈린|エストニア|タリン
Eswatini|Mbabane|에스와티니|음바바네|エスワティニ|ムババーネ
Ethiopia|Addis Ababa|에티오피아|아디스아바바|エチオピア|アディスアベバ
Fiji|Suva|피지|수바|フィジー|スバ
Finland|Helsinki|핀란드|헬싱키|フィンランド|ヘルシンキ
France|Paris|프랑스|파리|フランス|パリ
Gabon|Libreville|가봉|리브르빌|ガボン|リーブルビル
the Gambia,Gambia|Banjul|감비아|반줄|ガンビア|バンジュール
Georgia|Tbilisi|조지아|트빌리시|ジョージア|トビリシ
Germany|Berlin|독일|베를린|ドイツ|ベルリン
Ghana|Accra|가나|아크라|ガーナ|アクラ
Greece|Athens|그리스|아테네|ギリシャ|アテネ
Grenada|Saint George's|그레나다|세인트조지스|グレナダ|セントジョージズ
Guatemala|Guatemala City|과테말라|과테말라시티|グアテマラ|グアテマラシティ
Guinea|Conakry|기니|코나크리|ギニア|コナクリ
Guinea-Bissau|Bissau|기니비사우|비사우|ギニアビサウ|ビサウ
Guyana|Georgetown|가이아나|조지타운|ガイアナ|ジョージタウン
Haiti|Port-au-Prince|아이티|포르토프랭스|ハイチ|ポルトープランス
Honduras|Tegucigalpa|온두라스|테구시갈파|ホンジュラス|テグシガルパ
Hungary|Budapest|헝가리|부다페스트|ハンガリー|ブダペスト
Iceland|Reykjavik|아이슬란드|레이캬비크|アイスランド|レイキャビク
India|New Delhi|인도|뉴델리|インド|ニューデリー
Indonesia|Jakarta|인도네시아|자카르타|インドネシア|ジャカルタ
Iran|Tehran|이란|테헤란|イラン|テヘラン
Iraq|Baghdad|이라크|바그다드|イラク|バグダッド
Ireland|Dublin|아일랜드|더블린|アイルランド|ダブリン
Israel|Jerusalem|이스라엘|예루살렘|イスラエル|エルサレム
Italy|Rome|이탈리아|로마|イタリア|ローマ
Ivory Coast,Côte d'Ivoire|Yamoussoukro|코트디부아르|야무수크로|コートジボワール|ヤムスクロ
Jamaica|Kingston|자메이카|킹스턴|ジャマイカ|キングストン
Japan|Tokyo|일본|도쿄|日本|東京
Jordan|Amman|요르단|암만|ヨルダン|アンマン
Kazakhstan|Astana|카자흐스탄|아스타나|カザフスタン|アスタナ
Kenya|Nairobi|케냐|나이로비|ケニア|ナイロビ
Kiribati|South Tarawa|키리바시|사우스타라와|キリバス|南タラワ
Kosovo|Pristina|코소보|프리슈티나|コソボ|プリシュティナ
Kuwait|Kuwait City|쿠웨이트|쿠웨이트시티|クウェート|クウェートシティ
Kyrgyzstan|Bishkek|키르기스스탄|비슈케크|キルギス|ビシュケク
Laos|Vientiane|라오스|비엔티안|ラオス|ビエンチャン
Latvia|Riga|라트비아|리가|ラトビア|リガ
Lebanon|Beirut|레바논|베이루트|レバノン|ベイルート
Lesotho|Maseru|레소토|마세루|レソト|マセル
Liberia|Monrovia|라이베리아|몬로비아|リベリア|モンロビア
Libya|Tripoli|리비아|트리폴리|リビア|トリポリ
Liechtenstein|Vaduz|리히텐슈타인|파두츠|リヒテンシュタイン|ファドゥーツ
Lithuania|Vilnius|리투아니아|빌뉴스|リトアニア|ビリニュス
Luxembourg|Luxembourg City|룩셈부르크|룩셈부르크시|ルクセンブルク|ルクセンブルク市
Madagascar|Antananarivo|마다가스카르|안타나나리보|マダガスカル|アンタナナリボ
Malawi|Lilongwe|말라위|릴롱궤|マラウイ|リロングウェ
Malaysia|Kuala Lumpur|말레이시아|쿠알라룸푸르|マレーシア|クアラルンプール
the Maldives,Maldives|Malé|몰디브|말레|モルディブ|マレ
Mali|Bamako|말리|바마코|マリ|バマコ
Malta|Valletta|몰타|발레타|マルタ|バレッタ
the Marshall Islands,Marshall Islands|Majuro|마셜 제도|마주로|マーシャル諸島|マジュロ
Mauritania|Nouakchott|모리타니|누악쇼트|モーリタニア|ヌアクショット
Mauritius|Port Louis|모리셔스|포트루이스|モーリシャス|ポートルイス
Mexico|Mexico City|멕시코|멕시코시티|メキシコ|メキシコシティ
Micronesia|Palikir|미크로네시아|팔리키르|ミクロネシア|パリキール
Moldova|Chișinău|몰도바|키시너우|モルドバ|キシナウ
Monaco|Monaco|모나코|모나코|モナコ|モナコ
Mongolia|Ulaanbaatar|몽골|울란바토르|モンゴル|ウランバートル
Montenegro|Podgorica|몬테네그로|포드고리차|モンテネグロ|ポドゴリツァ
Morocco|Rabat|모로코|라바트|モロッコ|ラバト
Mozambique|Maputo|모잠비크|마푸투|モザンビーク|マプト
Myanmar|Naypyidaw|미얀마|네피도|ミャンマー|ネピドー
Namibia|Windhoek|나미비아|빈트후크|ナミビア|ウィントフック
Nauru|Yaren|나우루|야렌|ナウル|ヤレン
Nepal|Kathmandu|네팔|카트만두|ネパール|カトマンズ
the Netherlands,Netherlands,Holland|Amsterdam|네덜란드|암스테르담|オランダ|アムステルダム
New Zealand|Wellington|뉴질랜드|웰링턴|ニュージーランド|ウェリントン
Nicaragua|Managua|니카라과|마나과|ニカラグア|マナグア
Niger|Niamey|니제르|니아메|ニジェール|ニアメ
Nigeria|Abuja|나이지리아|아부자|ナイジェリア|アブジャ
North Korea|Pyongyang|북한,조선민주주의인민공화국|평양|北朝鮮|平壌
North Macedonia|Skopje|북마케도니아|스코페|北マケドニア|スコピエ
Norway|Oslo|노르웨이|오슬로|ノルウェー|オスロ
Oman|Muscat|오만|무스카트|オマーン|マスカット
Pakistan|Islamabad|파키스탄|이슬라마바드|パキスタン|イスラマバード
Palau|Ngerulmud|팔라우|응게룰무드|パラオ|マルキョク
Palestine|Ramallah|팔레스타인|라말라|パレスチナ|ラマッラー
Panama|Panama City|파나마|파나마시티|パナマ|パナマシティ
Papua New Guinea|Port Moresby|파푸아뉴기니|포트모르즈비|パプアニューギニア|ポートモレスビー
Paraguay|Asunción|파라과이|아순시온|パラグアイ|アスンシオン
Peru|Lima|페루|리마|ペルー|リマ
the Philippines,Philippines|Manila|필리핀|마닐라|フィリピン|マニラ
Poland|Warsaw|폴란드|바르샤바|ポーランド|ワルシャワ
Portugal|Lisbon|포르투갈|리스본|ポルトガル|リスボン
Qatar|Doha|카타르|도하|カタール|ドーハ
Romania|Bucharest|루마니아|부쿠레슈티|ルーマニア|ブカレスト
Russia|Moscow|러시아|모스크바|ロシア|モスクワ
Rwanda|Kigali|르완다|키갈리|ルワンダ|キガリ
Saint Kitts and Nevis|Basseterre|세인트키츠 네비스|바스테르|セントクリストファー・ネービス|バセテール
Saint Lucia|Castries|세인트루시아|캐스트리스|セントルシア|カストリーズ
Saint Vincent and the Grenadines|Kingstown|세인트빈센트 그레나딘|킹스타운|セントビンセント・グレナディーン|キングスタウン
Samoa|Apia|사모아|아피아|サモア|アピア
San Marino|San Marino City|산마리노|산마리노시|サンマリノ|サンマリノ市
São Tomé and Príncipe|São Tomé|상투메 프린시페|상투메|サントメ・プリンシペ|サントメ
Saudi Arabia|Riyadh|사우디아라비아|리야드|サウジアラビア|リヤド
Senegal|Dakar|세네갈|다카르|セネガル|ダカール
Serbia|Belgrade|세르비아|베오그라드|セルビア|ベオグラード
the Seychelles,Seychelles|Victoria|세이셸|빅토리아|セーシェル|ビクトリア
Sierra Leone|Freetown|시에라리온|프리타운|シエラレオネ|フリータウン
Singapore|Singapore|싱가포르|싱가포르|シンガポール|シンガポール
Slovakia|Bratislava|슬로바키아|브라티슬라바|スロバキア|ブラチスラバ
Slovenia|Ljubljana|슬로베니아|류블랴나|スロベニア|リュブリャナ
the Solomon Islands,Solomon Islands|Honiara|솔로몬 제도|호니아라|ソロモン諸島|ホニアラ
Somalia|Mogadishu|소말리아|모가디슈|ソマリア|モガディシュ
South Africa|Pretoria|남아프리카 공화국,남아공|프리토리아|南アフリカ|プレトリア
South Korea,Korea,the Republic of Korea|Seoul|대한민국,한국|서울|韓国,大韓民国|ソウル
South Sudan|Juba|남수단|주바|南スーダン|ジュバ
Spain|Madrid|스페인|마드리드|スペイン|マドリード
Sri Lanka|Sri Jayawardenepura Kotte|스리랑카|스리자야와르데네푸라코테|スリランカ|スリジャヤワルダナプラコッテ
Sudan|Khartoum|수단|하르툼|スーダン|ハルツーム
Suriname|Paramaribo|수리남|파라마리보|スリナム|パラマリボ
Sweden|Stockholm|스웨덴|스톡홀름|スウェーデン|ストックホルム
Switzerland|Bern|스위스|베른|スイス|ベルン
Syria|Damascus|시리아|다마스쿠스|シリア|ダマスカス
Taiwan|Taipei|대만|타이베이|台湾|台北
Tajikistan|Dushanbe|타지키스탄|두샨베|タジキスタン|ドゥシャンベ
Tanzania|Dodoma|탄자니아|도도마|タンザニア|ドドマ
Thailand|Bangkok|태국|방콕|タイ|バンコク
Togo|Lomé|토고|로메|トーゴ|ロメ
Tonga|Nuku'alofa|통가|누쿠알로파|トンガ|ヌクアロファ
Trinidad and Tobago|Port of Spain|트리니다드 토바고|포트오브스페인|トリニダード・トバゴ|ポートオブスペイン
Tunisia|Tunis|튀니지|튀니스|チュニジア|チュニス
Turkey,Türkiye|Ankara|튀르키예,터키|앙카라|トルコ|アンカラ
Turkmenistan|Ashgabat|투르크메니스탄|아시가바트|トルクメニスタン|アシガバート
Tuvalu|Funafuti|투발루|푸나푸티|ツバル|フナフティ
Uganda|Kampala|우간다|캄팔라|ウガンダ|カンパラ
Ukraine|Kyiv|우크라이나|키이우|ウクライナ|キーウ
the United Arab Emirates,United Arab Emirates,the UAE|Abu Dhabi|아랍에미리트|아부다비|アラブ首長国連邦,UAE|アブダビ
the United Kingdom,the UK,Britain,England|London|영국|런던|イギリス,英国|ロンドン
the United States,the USA,America,the US,the United States of America|Washington, D.C.|미국|워싱턴 D.C.|アメリカ,米国|ワシントンD.C.
Uruguay|Montevideo|우루과이|몬테비데오|ウルグアイ|モンテビデオ
Uzbekistan|Tashkent|우즈베키스탄|타슈켄트|ウズベキスタン|タシケント
Vanuatu|Port Vila|바누아투|포트빌라|バヌアツ|ポートビラ
Vatican City,the Vatican|Vatican City|바티칸 시국,바티칸|바티칸|バチカン市国,バチカン|バチカン
Venezuela|Caracas|베네수엘라|카라카스|ベネズエラ|カラカス
Vietnam|Hanoi|베트남|하노이|ベトナム|ハノイ
Yemen|Sanaa|예멘|사나|イエメン|サヌア
Zambia|Lusaka|잠비아|루사카|ザンビア|ルサカ
Zimbabwe|Harare|짐바브웨|하라레|ジンバブエ|ハラレ
"""


def _parse(table: str) -> tuple[Country, ...]:
    rows = [line.split("|") for line in table.strip().splitlines()]
    return tuple(
        Country(
            en=tuple(en.split(",")),
            ko=tuple(ko.split(",")),
            ja=tuple(ja.split(",")),
            capital_en=cap_en,
            capital_ko=cap_ko,
            capital_ja=cap_ja,
        )
        for en, cap_en, ko, cap_ko, ja, cap_ja in rows
    )


COUNTRIES: tuple[Country, ...] = _parse(_TABLE)
